"""The demonstration behind tools/demo: a hypervisor, three guests, and the answers they get.

One process with its children, which end with it however it ends. After a killed run, the next one
removes what is left.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lab.demo_ovn import SUITE, DemoOvn
from lab.rig.guest import Guest
from lab.rig.hypervisor import OURS, Hypervisor, instance_of
from lab.rig.openvswitch import INSTALLED
from lab.rig.process import LabError, run, wait_for
from lab.rig.relay import Relay
from lab.rig.zookeeper import ZooKeeper
from lab.upstream.nova import Nova
from lab.upstream.ovn_install import install_ovn

PREFIX = "demo"
ROOT = Path("/run/ovs-metadata-demo")
NOVA_PORT = 8775
META_DATA = "/openstack/latest/meta_data.json"
URL = f"http://169.254.169.254{META_DATA}"

SECRET_KEY = "agent.openstack.metadata.shared_secret"  # noqa: S105 - its name

COMMANDS = ("ovs-metadata", "mn-conf")
"""Commands that the demonstration makes for its hypervisor, in its directory."""

TWIN = {"mac": "fa:16:3e:11:11:11", "address": "10.0.0.5/24"}
THIRD = {"mac": "fa:16:3e:33:33:33", "address": "10.0.0.7/24"}
GUESTS = {"one": TWIN, "two": TWIN, "three": THIRD}


class Demo:
    """The demonstration; `failures` counts what did not go as it should."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.failures = 0
        installation = install_ovn(SUITE) if options.ovn else None
        self.hypervisor = Hypervisor(
            PREFIX, root=ROOT, openvswitch=installation.openvswitch if installation else INSTALLED
        )
        self.ovn = DemoOvn(installation, self.hypervisor) if installation else None
        self._colour = sys.stdout.isatty()
        self._commands: dict[str, Path] = {}

    def run(self) -> int:
        """Show everything; returns the exit status."""
        # What runs outside the hypervisor, ZooKeeper for example, outlives it.
        with contextlib.ExitStack() as outside:
            try:
                self._set_up(outside)
                self._show_identities()
                self._show_forgery()
                if self.ovn:
                    self._show_ovn(self.ovn)
                else:
                    self._show_flows()
                self._conclude()
                if not self.options.once:
                    self._say_what_to_try()
                    signal.pause()
            except LabError as error:
                self._report_failure(error)
                return 1
            finally:
                self._close()
        return 1 if self.failures else 0

    # Setting up.

    def _set_up(self, outside: contextlib.ExitStack) -> None:
        hypervisor = self.hypervisor
        with self._step("Open vSwitch (userspace datapath) in network namespace demo-host"):
            hypervisor.start()
        if self.options.store == "zookeeper":
            with self._step("ZooKeeper, a real one"):
                zookeeper = outside.enter_context(ZooKeeper())
                outside.enter_context(hypervisor.use_zookeeper(zookeeper))
        if self.ovn:
            with self._step("OVN, a real one: its databases, ovn-northd and ovn-controller"):
                self.ovn.start(outside)
        with self._step("three guests; one and two have the same MAC and IP address"):
            instances = self.options.instance or [()] * len(GUESTS)
            for (name, addresses), instance in zip(GUESTS.items(), instances, strict=False):
                hypervisor.add_guest(
                    name,
                    plug=False,
                    record=False,
                    **addresses,
                    **dict(zip(("instance_id", "project_id"), instance, strict=False)),
                )
        self._start_nova(outside)
        hypervisor.configure(store={"records": "ovn" if self.ovn else "store"})
        self._write_commands()
        with self._step("the agent: metadata port, flows, proxy workers"):
            hypervisor.start_agent()
        records = "their ports in OVN" if self.ovn else "port records"
        with self._step(f"{records}, and the guests plugged into the bridge"):
            for guest in hypervisor.guests:
                (self.ovn or hypervisor).put(guest)
                guest.plug(hypervisor.ovs, hypervisor.bridge)
            for guest in hypervisor.guests:
                hypervisor.wait_until_served(guest)

    def _start_nova(self, outside: contextlib.ExitStack) -> None:
        hypervisor = self.hypervisor
        if self.options.nova is None:
            with self._step("a metadata service that enforces Nova's contract"):
                hypervisor.start_metadata_service()
        elif self.options.nova == "lab":
            with self._step("a real Nova metadata API"):
                nova = outside.enter_context(
                    Nova(map(instance_of, hypervisor.guests), namespace=hypervisor.namespace)
                )
                hypervisor.nova, hypervisor.secret = nova.url, nova.secret
        else:
            with self._step(f"a way to Nova at {self.options.nova}"):
                target = self.options.nova.removeprefix("http://").rstrip("/")
                outside.enter_context(Relay(hypervisor.namespace, NOVA_PORT, target))
                hypervisor.secret = self.options.secret

    # What there is to see.

    def _show_identities(self) -> None:
        self._title("Each guest asks http://169.254.169.254/ who it is")
        for guest in self.hypervisor.guests:
            self._ask(guest, f"from {guest.ip}, {guest.mac}")

    def _show_forgery(self) -> None:
        liar, victim, *_ = self.hypervisor.guests
        self._title(f"{liar.name} lies about who it is, and still gets its own name")
        claim = f"X-Instance-ID: {victim.instance_id}"
        self._ask(liar, claim, "--header", claim)
        victims_address = self.hypervisor.port_address(victim)
        for source in ("10.0.0.250", victims_address):
            liar.run("ip", "addr", "add", f"{source}/32", "dev", "eth0")
            self._ask(liar, f"from {source}", "--interface", source)
            liar.run("ip", "addr", "del", f"{source}/32", "dev", "eth0")

    def _ask(self, guest: Guest, how: str, *options: str, served: bool = True) -> None:
        status, body = guest.curl(META_DATA, *options)
        document = json.loads(body) if status == 200 else {}
        name = document.get("name") or (f"status {status}" if status else "no answer")
        good = document.get("uuid") == (guest.instance_id if served else None)
        self.failures += not good
        print(f"  {guest.name:10}  {how:51}  {name} {'OK' if good else 'WRONG'}")

    def _show_ovn(self, ovn: DemoOvn) -> None:
        self._title("OVN has the port records, the store has none: ovs-metadata port list")
        columns = ("-c", "port", "-c", "fixed IPs", "-c", "port address")
        print(self._ovs_metadata("port", "list", *columns).rstrip())
        if list(self.hypervisor.store.port_ids()):
            self.failures += 1
        guest = self.hypervisor.guests[0]
        ofport = self.hypervisor.ovs.ofport(guest.tap)
        self._title(f"Neutron disables {guest.name}'s port, and enables it again")
        ovn.enable(guest, enabled=False)
        wait_for(lambda: not self.hypervisor.flows_of(ofport), "its flows to go")
        self._ask(guest, "disabled", "--max-time", "1", served=False)
        ovn.enable(guest, enabled=True)
        self.hypervisor.wait_until_served(guest)
        self._ask(guest, "enabled")

    def _show_flows(self) -> None:
        if self.options.flows:
            self._title(self._flows_command())
            print(self.hypervisor.flows().rstrip())
            return
        first = self.hypervisor.guests[0]
        self._title(f"Its packets, and the flows they met: ovs-metadata flows {first.tap}")
        shown = json.loads(self._ovs_metadata("flows", "--format", "json", first.tap))
        for flow in (each for port in shown["ports"] for each in port["flows"]):
            if flow["packets"]:
                print(f"  {flow['packets']:10}  {flow['does']}")

    def _flows_command(self) -> str:
        bridge = self.hypervisor.ovs.mgmt(self.hypervisor.bridge)
        return f"ovs-ofctl -O OpenFlow13 --names dump-flows {bridge} {OURS}"

    def _conclude(self) -> None:
        verdict = self._ovs_metadata("doctor").splitlines()[0]
        self._title(f"ovs-metadata doctor: {verdict}")
        if self.failures:
            print(f"{self.failures} answers were not as they should be. Everything there is:")
            print(self.hypervisor.report())
        else:
            print("Every guest got its own identity, whatever it claimed.")

    def _ovs_metadata(self, *arguments: str) -> str:
        return run(self._commands["ovs-metadata"], *arguments, check=False)

    def _write_commands(self) -> None:
        """Make commands that are about this hypervisor, for people and for this program."""
        host = self.hypervisor
        for name in COMMANDS:
            script = host.root / name
            command = Path(sys.executable).parent / name
            script.write_text(
                "#!/bin/sh\n"
                f"exec nsenter --net=/run/netns/{host.namespace} "
                f'{command} --config {host.config} "$@"\n'
            )
            script.chmod(0o755)
            self._commands[name] = script

    def _say_what_to_try(self) -> None:
        host = self.hypervisor
        ours, mn_conf = self._commands.values()
        guest = host.guests[0]
        of_ovn = self.ovn.things_to_try(guest) if self.ovn else {}
        self._title("It stays up until Ctrl-C. Things to try:")
        for what, how in (
            ("ask as a guest", f"ip netns exec {guest.name} curl -i {URL}"),
            ("the hypervisor at a glance", f"{ours} status"),
            ("its ports", f"{ours} port list"),
            *of_ovn.items(),
            ("a port's flows", f"{ours} flows {guest.tap}"),
            ("as Open vSwitch has them", self._flows_command()),
            ("delete them; they come back", self._delete_command()),
            ("the configuration", f"{mn_conf} dump -h {host.prefix}"),
            ("the logs", f"less {host.root}/*.log {host.ovs.root}/*.log"),
            ("break it", f"{mn_conf} set '{SECRET_KEY} : \"wrong\"'"),
            ("find out what is wrong", f"{ours} doctor"),
            ("mend it", f"{mn_conf} unset {SECRET_KEY}"),
        ):
            print(f"{what}:\n  {how}")
        sys.stdout.flush()

    def _delete_command(self) -> str:
        return f"ovs-ofctl del-flows {self.hypervisor.ovs.mgmt(self.hypervisor.bridge)}"

    # Output.

    def _report_failure(self, error: LabError) -> None:
        print(self.hypervisor.report(), file=sys.stderr)
        print(f"tools/demo: {error}", file=sys.stderr)

    @contextlib.contextmanager
    def _step(self, what: str) -> Iterator[None]:
        print(f"  {what} ... ", end="", flush=True)
        started = time.monotonic()
        try:
            yield
        except BaseException:
            print("failed", flush=True)
            raise
        print(f"{time.monotonic() - started:.1f} s", flush=True)

    def _title(self, text: str) -> None:
        print(f"\n\033[1m{text}\033[0m" if self._colour else f"\n{text}")

    def _close(self) -> None:
        # From here on nothing may interrupt the cleaning up.
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        print("Taking everything down.", flush=True)
        self.hypervisor.close()


def main() -> int:
    """Entry point."""
    options = _parse()
    with _only_one():
        _remove_leftovers()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, _interrupt)
        try:
            return Demo(options).run()
        except KeyboardInterrupt:
            return 130 if options.once else 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tools/demo",
        description="Three guests on a private Open vSwitch ask the metadata service who they "
        "are. Stays up until Ctrl-C, then leaves nothing behind.",
    )
    parser.add_argument(
        "--once", action="store_true", help="show it, take it down; exit 1 if anything was wrong"
    )
    parser.add_argument(
        "--flows", action="store_true", help="show all flows, as Open vSwitch has them"
    )
    parser.add_argument(
        "--ovn",
        action="store_true",
        help="show an ML2/OVN hypervisor: a real OVN is fetched and started, and has the records",
    )
    parser.add_argument(
        *("--store",),
        choices=["directory", "zookeeper"],
        default="directory",
        help="where port records live (zookeeper: a real one is installed and started)",
    )
    parser.add_argument(
        *("--nova",),
        metavar="URL",
        help="use this Nova metadata API (http only) instead of the stand-in; "
        "'lab' installs and starts a real one",
    )
    parser.add_argument("--secret", help="that Nova's metadata_proxy_shared_secret")
    parser.add_argument(
        *("--instance",),
        action="append",
        metavar="UUID,PROJECT",
        type=lambda text: text.split(","),
        help="an instance that Nova knows; give two or three",
    )
    options = parser.parse_args()
    if options.ovn and options.store == "zookeeper":
        parser.error("--ovn needs no ZooKeeper")
    if options.nova not in (None, "lab"):
        if not options.nova.startswith("http://"):
            parser.error("--nova: must be http://HOST:PORT, or lab")
        if not options.secret:
            parser.error("--nova needs --secret")
        if not options.instance or not 2 <= len(options.instance) <= len(GUESTS):
            parser.error("--nova needs two or three times --instance, for it knows no others")
        if any(len(instance) != 2 for instance in options.instance):
            parser.error("--instance: must be UUID,PROJECT")
    elif options.secret or options.instance:
        parser.error("--secret and --instance go with --nova URL")
    return options


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    with Path("/run/ovs-metadata-demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("tools/demo: the demonstration is already running")
        try:
            yield
        finally:
            os.unlink(lock.name)


def _remove_leftovers() -> None:
    """Remove what a run that was killed left: its processes ended with it, by the kernel's hand."""
    names = [f"{PREFIX}-{name}" for name in ("host", "metadata", *GUESTS)]
    there = [name for name in names if Path("/run/netns", name).exists()]
    if there and not ROOT.exists():
        sys.exit(f"tools/demo: network namespace {there[0]} is in the way, and not of our making")
    for name in there:
        run("ip", "netns", "del", name, check=False)
    shutil.rmtree(ROOT, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
