"""cloud-init, the real client of the metadata service, run in a guest of the lab.

Its data sources always contact 169.254.169.254 on their own, so it runs nowhere but in a guest's
network namespace. What it writes lies in a directory of its own; everything else is read-only to
it, so that it cannot take this machine for a new instance.
"""

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lab.rig.guest import Guest
from lab.rig.process import LabError
from lab.upstream.cloud_init_install import BOOKWORM, install_cloud_init

SCRIPT = Path(__file__).with_name("cloud_init_guest.py")

# The mount namespace that `ip netns exec` makes is this command's alone.
ISOLATED = 'mount --bind "$1" "$1" && mount -o remount,bind,ro / && shift && exec "$@"'


BOOT_PATHS = (
    *("/openstack", "/openstack"),
    *(
        f"/openstack/2018-08-27/{name}"
        for name in (
            *("meta_data.json", "user_data", "vendor_data.json", "vendor_data2.json"),
            "network_data.json",
        )
    ),
    *(
        f"/latest/meta-data/{name}"
        for name in (
            *("", "block-device-mapping/", "block-device-mapping/ami"),
            *("block-device-mapping/ephemeral0", "block-device-mapping/root"),
            *("block-device-mapping/swap", "placement/", "placement/availability-zone"),
            *("ami-id", "ami-launch-index", "ami-manifest-path", "hostname", "instance-action"),
            *("instance-id", "instance-type", "local-hostname", "local-ipv4", "public-hostname"),
            *("public-ipv4", "reservation-id", "security-groups"),
        )
    ),
)
"""What the OpenStack source asks Nova for in one boot, in order, one after the other.

Each on a connection of its own. An instance with a key pair asks for two more,
`public-keys/` and `public-keys/0/openssh-key`.
"""

REQUEST_HEADERS = (
    "Host: 169.254.169.254\r\n"
    "User-Agent: Cloud-Init/22.4.2\r\n"
    "Accept-Encoding: gzip, deflate\r\n"
    "Accept: */*\r\n"
    "Connection: keep-alive\r\n"
)
"""The headers it sends; it closes the connection itself when it has its answer."""


@dataclass(frozen=True)
class Request:
    """A request cloud-init made, and the status of the answer."""

    method: str
    path: str
    status: int


@dataclass(frozen=True)
class Discovery:
    """What cloud-init found out. All but `found`, `requests` and `log` is empty if not `found`.

    `address` is the metadata service's, as a URL; `still_the_same` is whether, at a later boot, it
    would take the machine for the same instance without asking again.
    """

    found: bool
    requests: tuple[Request, ...]
    log: str
    instance_id: str = ""
    hostname: str = ""
    public_keys: tuple[str, ...] = ()
    user_data: str = ""
    address: str = ""
    still_the_same: bool = False


def discover(
    guest: Guest,
    source: Literal["OpenStack", "Ec2"],
    config: Mapping[str, Any] | None = None,
    *,
    cloud: bool = True,
    suite: str = BOOKWORM,
    timeout: float = 60.0,
) -> Discovery:
    """Have one of cloud-init's data sources look for its instance in a guest.

    Args:
        guest: where.
        source: which.
        config: the source's configuration, as under `datasource:` in cloud.cfg.
        cloud: whether the guest's hardware says that it is OpenStack's.
        suite: of Debian, whose cloud-init it is.
        timeout: seconds after which it is given up.

    Raises:
        LabError: cloud-init failed, or took too long; the message ends with its log.
    """
    installation = install_cloud_init(suite)
    with tempfile.TemporaryDirectory(prefix="ovs-metadata-cloud-init-") as directory:
        job = {
            "source": source,
            "directory": directory,
            "config": dict(config or {}),
            "cloud": cloud,
            "vm_uuid": guest.instance_id,
        }
        command: list[str | Path] = [
            *("ip", "netns", "exec", guest.name, "sh", "-c", ISOLATED, "sh", directory),
            *("env", f"PYTHONPATH={installation.modules}", "PYTHONDONTWRITEBYTECODE=1"),
            *(f"TMPDIR={directory}", installation.python, "-P", SCRIPT, json.dumps(job)),
        ]
        log = Path(directory, "log")
        try:
            with log.open("wb") as output:
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    text=True,
                    timeout=timeout,
                    check=False,
                )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"cloud-init took over {timeout:g} s:\n{_tail(log)}") from error
        if done.returncode:
            raise LabError(f"cloud-init exited {done.returncode}:\n{_tail(log)}")
        logged = log.read_text(errors="replace")
    result = json.loads(done.stdout)
    requests = tuple(Request(*request) for request in result.pop("requests"))
    keys = tuple(result.pop("public_keys", ()))
    return Discovery(requests=requests, public_keys=keys, log=logged, **result)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]
