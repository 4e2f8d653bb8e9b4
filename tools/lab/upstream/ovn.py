"""The real OVN: its central databases with ovn-northd, and ovn-controller on a hypervisor.

Sockets and logs are below one directory each. Logical switch ports get the names, addresses and
external_ids that Neutron's ML2/OVN driver writes. Processes end by pid with their `with` block or
their hypervisor.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, run, wait_for
from lab.rig.running import Running
from lab.upstream.ovn_install import Installation
from ovs_metadata.store.record import PortRecord


class OvnCentral(Running):
    """Northbound and southbound database and ovn-northd, below `root`."""

    def __init__(self, installation: Installation, root: Path) -> None:
        self.installation = installation
        self._root = root
        self._processes: dict[str, Process] = {}

    @property
    def northbound(self) -> str:
        """Where Neutron finds the northbound database."""
        return self._socket("nb")

    @property
    def southbound(self) -> str:
        """Where ovn-controller finds the southbound database."""
        return self._socket("sb")

    def start(self) -> None:
        """Make both databases, and start the three processes."""
        self._root.mkdir(parents=True)
        for name in ("nb", "sb"):
            schema = self.installation.schema(name)
            run(self.installation.program("ovsdb-tool"), "create", self._root / name, schema)
            self.start_database(name)
        self.nbctl("init")
        databases = (f"--ovn{name}-db={self._socket(name)}" for name in ("nb", "sb"))
        self._spawn("ovn-northd", *databases, program="ovn-northd")
        self.nbctl("--wait=sb", "sync")

    def start_database(self, name: str) -> None:
        """Start the server of a database, "nb" or "sb", again if it was stopped."""
        socket = self._root / f"{name}.sock"
        remotes = [f"--remote=p{self._socket(name)}"]
        if name == "sb":
            # As `serve_tls` asks for; nothing until then.
            remotes.append("--remote=db:OVN_Southbound,SB_Global,connections")
            remotes += [
                f"--{option}=db:OVN_Southbound,SSL,{option.replace('-', '_')}"
                for option in ("private-key", "certificate", "ca-cert")
            ]
        self._spawn(f"ovsdb-{name}", *remotes, str(self._root / name), program="ovsdb-server")
        wait_for(socket.exists, f"the {name} database of OVN")

    def serve_tls(self, key: Path, certificate: Path, authority: Path) -> int:
        """Serve the southbound database by TLS on 127.0.0.1, too; returns the port.

        Clients have the role of ovn-controllers there: they read everything, and write what belongs
        to the chassis that their certificate names.
        """
        self.sbctl("set-ssl", str(key), str(certificate), str(authority))
        self.sbctl("set-connection", "role=ovn-controller", "pssl:0:127.0.0.1")

        def bound() -> int:
            return int(self.sbctl("get", "connection", ".", "status:bound_port").strip().strip('"'))

        return wait_for(bound, "the southbound database to listen")

    def stop_database(self, name: str) -> None:
        """End the server of a database; what it holds stays."""
        self._processes[f"ovsdb-{name}"].stop()

    def stop(self) -> None:
        """End all of them."""
        for process in reversed(self._processes.values()):
            process.stop()

    def nbctl(self, *args: str, timeout: float = 30.0) -> str:
        """Run ovn-nbctl."""
        program = self.installation.program("ovn-nbctl")
        return run(program, f"--db={self._socket('nb')}", *args, timeout=timeout)

    def sbctl(self, *args: str) -> str:
        """Run ovn-sbctl."""
        program = self.installation.program("ovn-sbctl")
        return run(program, f"--db={self._socket('sb')}", *args)

    def add_port(self, guest: Guest, *pairs: str) -> None:
        """Add a guest's port to the logical switch of its network, which is made if need be.

        `pairs` are addresses that it may use besides its own: allowed address pairs.
        """
        self._add_port(
            guest.network_id,
            guest.port_id,
            " ".join([guest.mac, guest.ip, *pairs]),
            **{
                "neutron:cidrs": guest.address,
                "neutron:device_id": guest.instance_id,
                "neutron:device_owner": "compute:nova",
                "neutron:project_id": guest.project_id,
                "neutron:revision_number": "1",
            },
        )

    def add_sub_port(self, guest: Guest, parent: Guest, vlan: int) -> None:
        """Add a guest's port as a sub-port of a trunk, as Neutron's driver does."""
        self._add_port(
            guest.network_id,
            guest.port_id,
            f"{guest.mac} {guest.ip}",
            *(parent.port_id, str(vlan)),
            **{
                "neutron:cidrs": guest.address,
                "neutron:device_id": "",
                "neutron:device_owner": "trunk:subport",
                "neutron:project_id": guest.project_id,
                "neutron:revision_number": "1",
            },
        )

    def add_records(self, records: Sequence[PortRecord]) -> None:
        """Add ports of records to one logical switch, many in a transaction."""
        self.nbctl("--may-exist", "ls-add", "crowd")
        for begin in range(0, len(records), 50):
            words = []
            for record in records[begin : begin + 50]:
                addresses = " ".join([record.mac_address, *record.fixed_ips])
                words += ["--", "lsp-add", "crowd", record.port_id]
                words += ["--", "lsp-set-addresses", record.port_id, addresses]
                words += ["--", "lsp-set-port-security", record.port_id, addresses]
            self.nbctl(*words[1:])

    def add_metadata_port(self, guest: Guest, port_id: str, mac: str, ip: str) -> None:
        """Add the port that Neutron's metadata agent has in the guest's network (a localport)."""
        ids = {
            "neutron:cidrs": f"{ip}/24",
            "neutron:device_id": f"ovnmeta-{guest.network_id}",
            "neutron:device_owner": "network:distributed",
        }
        self._add_port(guest.network_id, port_id, f"{mac} {ip}", **ids)
        self.nbctl("lsp-set-type", port_id, "localport", "--", "lsp-set-port-security", port_id)

    def _add_port(
        self, network: str, port: str, addresses: str, *parent_and_tag: str, **external_ids: str
    ) -> None:
        switch = f"neutron-{network}"
        ids = {"neutron:network_name": switch, **external_ids}
        self.nbctl(
            *("--may-exist", "ls-add", switch, "--", "lsp-add", switch, port, *parent_and_tag),
            *("--", "lsp-set-addresses", port, addresses),
            *("--", "lsp-set-port-security", port, addresses),
            *("--", "set", "logical_switch_port", port),
            *(f'external_ids:"{key}"="{value}"' for key, value in ids.items()),
        )

    def bind(self, guest: Guest, *chassis: str) -> None:
        """Ask for a port to be on these chassis, as Neutron does: two while it migrates live."""
        self.nbctl(
            *("lsp-set-options", guest.port_id, f"requested-chassis={','.join(chassis)}"),
            *(["activation-strategy=rarp"] if len(chassis) > 1 else []),
        )

    def chassis_of(self, guest: Guest) -> set[str]:
        """The chassis that a port is bound to: the main one, and where it may migrate to."""
        rows = self.sbctl(
            *("--bare", "--columns=chassis,additional_chassis", "find", "port_binding"),
            f"logical_port={guest.port_id}",
        )
        names = self.sbctl(
            "--format=csv", "--no-headings", "--columns=_uuid,name", "list", "chassis"
        )
        by_uuid = dict(line.split(",") for line in names.splitlines())
        return {by_uuid[uuid] for uuid in rows.split()}

    def give_addresses(self, network: str, cidr: str, options: Mapping[str, str]) -> None:
        """Have OVN answer DHCP on a network, with the options that Neutron's driver gives it."""
        uuid = self.nbctl(
            *("create", "dhcp_options", f"cidr={cidr}"),
            *(f'options:{name}="{value}"' for name, value in options.items()),
        ).strip()
        for port in self._ports(network):
            self.nbctl("lsp-set-dhcpv4-options", port, uuid)

    def route(self, router: str, networks: Mapping[str, tuple[str, str]]) -> None:
        """Add a router with a port in each network, which has this MAC and address."""
        self.nbctl("lr-add", router)
        for network, (mac, address) in networks.items():
            port, near = f"lrp-{network}", f"router-{network}"
            self.nbctl(
                *("lrp-add", router, port, mac, address),
                *("--", "lsp-add", f"neutron-{network}", near, "--", "lsp-set-type", near),
                *("router", "--", "lsp-set-addresses", near, "router"),
                *("--", "lsp-set-options", near, f"router-port={port}"),
            )

    def secure(self, network: str, *, stateful: bool) -> None:
        """Give a network's ports a security group: they reach each other, and nothing else."""
        verdict = "allow-related" if stateful else "allow-stateless"
        group = f"pg_{network.replace('-', '_')}"
        self.nbctl("pg-add", group, *self._ports(network))
        for direction, port in (("from-lport", "inport"), ("to-lport", "outport")):
            self.nbctl("acl-add", group, direction, "1001", f"{port} == @{group} && ip", "drop")
            for protocol in ("udp", "tcp", "icmp4", "icmp6"):
                match = f"{port} == @{group} && {protocol}"
                self.nbctl("acl-add", group, direction, "1002", match, verdict)

    def _ports(self, network: str) -> list[str]:
        listed = self.nbctl("lsp-list", f"neutron-{network}").splitlines()
        return [line.split()[1].strip("()") for line in listed]

    def wait_for_controllers(self) -> None:
        """Wait until the flows of each ovn-controller are those of the northbound database.

        An ovn-controller of 23.03 that connects to the switch again meanwhile, as on a busy
        machine, forgets that it is waited for: so it is asked again.
        """
        wait_for(
            lambda: self.nbctl("--timeout=15", "--wait=hv", "sync") == "", "ovn-controller", 120
        )

    def _socket(self, name: str) -> str:
        return f"unix:{self._root}/{name}.sock"

    def _spawn(self, name: str, *args: str, program: str) -> None:
        self._processes[name] = Process(
            [
                self.installation.program(program),
                *(f"--unixctl={self._root}/{name}.ctl", *args),
            ],
            self._root / f"{name}.log",
        )


class OvnController:
    """ovn-controller beside the agent of a hypervisor, whose process it is.

    `address` is that of its end of tunnels, of which there are none; each chassis has another.
    """

    def __init__(
        self, central: OvnCentral, hypervisor: Hypervisor, address: str = "127.0.0.1"
    ) -> None:
        self._central = central
        self._address = address
        self._hypervisor = hypervisor

    def start(self) -> Process:
        """Say in OVSDB who this chassis is, as an installer does, and start it."""
        settings = {
            "system-id": self._hypervisor.prefix,
            "hostname": self._hypervisor.prefix,
            "ovn-remote": self._central.southbound,
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": self._address,
            "ovn-bridge": self._hypervisor.bridge,
            "ovn-bridge-datapath-type": "netdev",
        }
        ovs = self._hypervisor.ovs
        ovs.vsctl(
            *("set", "open_vswitch", "."),
            *(f'external_ids:{key}="{value}"' for key, value in settings.items()),
        )
        return self.start_again()

    def start_again(self) -> Process:
        """Start it and wait until its flows are all there."""
        ovs = self._hypervisor.ovs
        process = self._hypervisor.spawn(
            "ovn-controller",
            *(self._central.installation.program("ovn-controller"), ovs.connection),
            OVS_RUNDIR=str(ovs.rundir),
            OVN_RUNDIR=str(self._hypervisor.root),
        )
        chassis = self._hypervisor.prefix
        wait_for(
            lambda: self._central.sbctl("--bare", "find", "chassis", f"name={chassis}"),
            "ovn-controller",
        )
        self._central.wait_for_controllers()
        return process

    def exit(self, *options: str) -> None:
        """Have it exit; it removes its chassis and its flows unless an option is "--restart"."""
        program = self._central.installation.program("ovn-appctl")
        process = self._process
        control = self._hypervisor.root / f"ovn-controller.{process.pid}.ctl"
        run(program, f"--target={control}", "exit", *options)
        process.wait()

    def kill(self) -> None:
        """Kill it as a crash would (SIGKILL)."""
        self._process.kill()
        self._process.wait()

    @property
    def _process(self) -> Process:
        return self._hypervisor.processes["ovn-controller"]
