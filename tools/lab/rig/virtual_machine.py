"""Real virtual machines as guests: a Debian kernel under QEMU, behind a tap device on the bridge.

The machine's one program asks the metadata service who it is, over IPv4 and over IPv6, prints the
answers on the serial console and powers off. Kernel and initial RAM disk are made once and kept in
the cache directory; a machine is a process of its hypervisor and ends with it at the latest.

QEMU emulates the processor in software, so no hardware support is needed. Root only.
"""

import hashlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.openvswitch import OpenVSwitch
from lab.rig.process import LabError, Process, run
from lab.upstream.cache import build_once, cache_directory

KERNEL_PACKAGE = "linux-image-cloud-amd64"
"""Debian's package that depends on the current kernel for virtual machines."""

MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci"),
    *("failover", "net_failover", "virtio_net"),
)
"""What that kernel needs to see the network device, each after those it depends on."""

URLS = {
    "IPv4": "http://169.254.169.254/openstack/latest/meta_data.json",
    "IPv6": "http://[fe80::a9fe:a9fe%eth0]/openstack/latest/meta_data.json",
}

# The kernel passes on to this program, as environment, each NAME=VALUE of its command line that it
# does not know itself: `address` comes from there. The kernel does not use an address before
# it has checked that no other host on the network has it, hence the wait.
INIT = f"""\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for module in {" ".join(MODULES)}; do
    insmod "/modules/$module.ko"
done
ip link set lo up
ip link set eth0 up
[ -z "$address" ] || ip addr add "$address" dev eth0
ip route add 169.254.169.254/32 dev eth0
for attempt in $(seq 100); do
    ip -6 addr show dev eth0 scope link | grep inet6 | grep -qv tentative && break
    sleep 0.1
done
ip addr show dev eth0
"""
INIT += "".join(
    f'echo "metadata over {family}: $(timeout 20 wget -q -O - "{url}" | tr -d "\\n")"\n'
    for family, url in URLS.items()
)
INIT += "poweroff -f\n"


@dataclass(frozen=True)
class Image:
    """What a machine boots: kernel and initial RAM disk."""

    kernel: Path
    initrd: Path


def machine_image() -> Image:
    """The image all machines boot; makes it first if need be.

    Raises:
        LabError: the kernel could not be fetched, or is not made as expected.
    """
    content = hashlib.sha256(INIT.encode()).hexdigest()[:12]
    directory = build_once(cache_directory() / f"virtual-machine-{content}", _build)
    return _image(directory)


def _image(directory: Path) -> Image:
    return Image(directory / "vmlinuz", directory / "initrd")


def _build(directory: Path) -> None:
    print("Fetching a kernel for virtual machines (27 MB, once)", file=sys.stderr)
    image = _image(directory)
    unpacked = directory / "unpacked"
    package = _fetch_kernel(directory)
    run("dpkg", "-x", package, unpacked, timeout=120)
    package.unlink()
    shutil.copyfile(_only(unpacked, "boot/vmlinuz-*"), image.kernel)
    tree = directory / "tree"
    for name in ("bin", "modules", "proc", "sys"):
        (tree / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    if not busybox:
        raise LabError("there is no busybox: install the Debian package busybox-static")
    shutil.copy(busybox, tree / "bin/busybox")
    for module in MODULES:
        shutil.copy(_only(unpacked, f"lib/modules/*/kernel/**/{module}.ko"), tree / "modules")
    init = tree / "init"
    init.write_text(INIT)
    init.chmod(0o755)
    pack = 'cd "$1" && find . | busybox cpio -o -H newc >"$2"'
    run("sh", "-c", pack, "sh", tree, image.initrd)
    shutil.rmtree(unpacked)
    shutil.rmtree(tree)


def _fetch_kernel(directory: Path) -> Path:
    """Download the current kernel's package; returns its file."""
    run("apt-get", "update", "-qq", timeout=120)
    depends = re.search(
        r"^ +Depends: (linux-image-\S+)$", run("apt-cache", "depends", KERNEL_PACKAGE), re.MULTILINE
    )
    if not depends:
        raise LabError(f"apt-cache names no kernel on which {KERNEL_PACKAGE} depends")
    # It downloads into the current directory, and nowhere else.
    run("env", f"--chdir={directory}", "apt-get", "download", "-q", depends[1], timeout=300)
    return _only(directory, "*.deb")


def _only(directory: Path, pattern: str) -> Path:
    """The one file below a directory that matches a pattern."""
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise LabError(f"expected one {pattern} in {directory}, found {len(found)}")
    return found[0]


def create_tap(guest: Guest, ovs: OpenVSwitch) -> None:
    """Make the guest's tap device beside the bridge; it goes with the hypervisor's namespace."""
    inside = ("ip", "-n", ovs.namespace)
    run(*inside, "tuntap", "add", "dev", guest.tap, "mode", "tap")
    run(*inside, "link", "set", guest.tap, "up")


def boot(guest: Guest, hypervisor: Hypervisor) -> Process:
    """Boot the guest as a virtual machine; its log is the serial console.

    The process ends when the machine has powered itself off, or when its kernel panics.
    """
    image = machine_image()
    kernel_arguments = f"console=ttyS0 quiet panic=-1 address={guest.address}"
    # Segments and checksums left to the hardware are never completed by a userspace datapath.
    offloads = "csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off"
    return hypervisor.spawn(
        guest.name,
        *("qemu-system-x86_64", "-accel", "tcg", "-m", "256"),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *("-kernel", image.kernel, "-initrd", image.initrd, "-append", kernel_arguments),
        *("-netdev", f"tap,id=net,ifname={guest.tap},script=no,downscript=no"),
        *("-device", f"virtio-net-pci,netdev=net,mac={guest.mac},romfile=,{offloads}"),
    )


def printed_metadata(console: str) -> dict[str, dict[str, Any]]:
    """The meta_data.json a machine printed, by the family it was asked for over.

    Raises:
        LabError: what was printed is not JSON; the message holds it.
    """
    printed = re.findall(r"^metadata over (\S+): (.*?)\r?$", console, re.MULTILINE)
    try:
        return {family: json.loads(text) for family, text in printed}
    except ValueError as error:
        raise LabError(f"a virtual machine got no metadata: {printed}") from error
