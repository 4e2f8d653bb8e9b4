"""Runs in a guest: has cloud-init look for its instance, and prints as JSON what it found.

`python cloud_init_guest.py JOB`, with the Python that has cloud-init and with cloud-init in
PYTHONPATH; nothing of this project can be imported there. JOB is a JSON object:

    source      the data source's module and class: OpenStack or Ec2
    directory   where cloud-init keeps what it writes
    config      the data source's configuration, as under `datasource:` in cloud.cfg
    cloud       whether the machine says that it is OpenStack's, by its DMI data
    vm_uuid     the UUID in its DMI data

This only does what `cloud-init init` does between reading its configuration and acting on what it
found: the data source is asked for its data, nothing is applied.
"""

import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from cloudinit import distros, dmi, helpers


class Requests(logging.Handler):
    """Notes every request cloud-init makes: what its HTTP library says in its debug log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.made: list[tuple[str, str, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of method, path and status."""
        # Scheme, host, port, method, path, protocol, status, length: no other message has as many.
        if isinstance(record.args, tuple) and len(record.args) == 8:
            method, path, _protocol, status = record.args[3:7]
            self.made.append((str(method), str(path), int(str(status))))


def pretend_hardware(directory: Path, job: dict[str, Any]) -> None:
    """Show cloud-init the DMI data that Nova gives a machine, in place of this host's."""
    directory.mkdir()
    if job["cloud"]:
        (directory / "product_name").write_text("OpenStack Nova\n")
    # Nova's default for the serial number is the instance, too (`sysinfo_serial = unique`).
    for name in ("product_uuid", "product_serial"):
        (directory / name).write_text(job["vm_uuid"] + "\n")
    dmi.DMI_SYS_PATH = str(directory)
    # In a container it would not look at DMI data; the lab may be one.
    dmi.is_container = lambda: False


def main() -> None:
    """Do the job."""
    job = json.loads(sys.argv[1])
    directory = Path(job["directory"])
    # cloud-init, when imported, has given the root logger a handler that discards everything.
    logging.basicConfig(level=logging.DEBUG, stream=sys.stderr, force=True)
    requests = Requests()
    logging.getLogger("urllib3.connectionpool").addHandler(requests)
    pretend_hardware(directory / "dmi", job)
    paths = helpers.Paths(
        {
            "cloud_dir": str(directory / "lib"),
            "run_dir": str(directory / "run"),
            "templates_dir": str(directory / "templates"),
        }
    )
    (directory / "run").mkdir()
    source = job["source"]
    config = {
        "datasource_list": [source],
        "datasource": {source: job["config"]},
        "system_info": {"distro": "debian"},
    }
    distro = distros.fetch("debian")("debian", config, paths)
    module = importlib.import_module(f"cloudinit.sources.DataSource{source}")
    found = getattr(module, f"DataSource{source}")(config, distro, paths)
    result: dict[str, Any] = {"found": bool(found.get_data()), "requests": requests.made}
    if result["found"]:
        user_data = found.get_userdata_raw()
        result |= {
            "instance_id": found.get_instance_id(),
            "hostname": found.get_hostname().hostname,
            "public_keys": found.get_public_ssh_keys(),
            "user_data": user_data.decode() if isinstance(user_data, bytes) else user_data,
            "address": found.metadata_address,
            "still_the_same": bool(found.check_instance_id(config)),
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
