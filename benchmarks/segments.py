"""What longer segments would gain: packets and processor time for an answer, by the path's MTU.

A guest takes the longest user data that Nova has, 64 KiB, again and again, over one connection.
All is as in production but for the MTU that the agent gives to the route to guests. Open vSwitch
has the userspace datapath here, which handles each packet by itself; the kernel's handles at once
what TCP hands over in one piece. As root:

    PYTHONPATH=tools .venv/bin/python -m benchmarks.segments
"""

import json
import os
import sys

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.inside import http_server
from lab.rig.process import LabError, run
from lab.rig.usage import Usage
from ovs_metadata.host.address import METADATA_PORT

MTUS = (1280, 1450, 1500)
"""What we use; of guests' networks with VXLAN, and without."""

ANSWERS = 500
LENGTH = 64 * 1024

_AGENT = """
import ovs_metadata.host.address as address
address.LEAST_PATH_MTU = {path}
from ovs_metadata.agent.main import main
main()
"""


def main() -> None:
    """Print a row for each MTU."""
    print("path MTU  packets  ovs-vswitchd, ms  worker, ms    (for each answer of 64 KiB)")
    for mtu in MTUS:
        packets, switch, worker = measured(mtu)
        print(f"{mtu:8}  {packets:7.1f}  {switch:16.2f}  {worker:10.2f}", flush=True)


def measured(mtu: int) -> tuple[float, float, float]:
    """Packets to the guest, and processor time in ms of ovs-vswitchd and of the worker."""
    hypervisor = Hypervisor(f"seg{os.getpid()}x{mtu}")
    try:
        hypervisor.start()
        guest = hypervisor.add_guest("guest")
        code = _AGENT.format(path=mtu)
        hypervisor.spawn("agent", sys.executable, "-c", code, "--config", hypervisor.config)
        hypervisor.wait_until_serving()
        hypervisor.wait_until_served(guest)
        with http_server(hypervisor.namespace, "127.0.0.1", 8775, "x" * LENGTH):
            take(guest, ANSWERS // 10)
            before = used(hypervisor)
            take(guest, ANSWERS)
            after = used(hypervisor)
    finally:
        hypervisor.close()
    packets, switch, worker = ((b - a) / ANSWERS for a, b in zip(before, after, strict=True))
    return packets, switch, worker


def used(hypervisor: Hypervisor) -> tuple[float, float, float]:
    """The same, for all answers so far."""
    show = ("ip", "-n", hypervisor.metadata_namespace, "-json", "-statistics", "link", "show")
    (device,) = json.loads(run(*show, METADATA_PORT))
    switch = Usage.of(hypervisor.ovs.vswitchd_pid)
    worker = Usage.of(hypervisor.children()["ovs_metadata.proxy.main"])
    return device["stats64"]["tx"]["packets"], switch.cpu * 1000, worker.cpu * 1000


def take(guest: Guest, answers: int) -> None:
    """Have the guest take so many answers; raises LabError if one does not arrive whole."""
    url = f"http://169.254.169.254/user-data?[1-{answers}]"
    lengths = guest.run(
        *(
            "curl",
            "--silent",
            "--fail",
            "--output",
            "/dev/null",
            "--write-out",
            "%{size_download}\n",
        ),
        url,
        timeout=300,
    )
    if lengths.split() != [str(LENGTH)] * answers:
        raise LabError("an answer is missing")


if __name__ == "__main__":
    main()
