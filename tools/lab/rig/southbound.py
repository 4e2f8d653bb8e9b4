"""A southbound database of OVN by itself: an ovsdb-server with rows as ovn-northd writes them.

For what needs thousands of ports, TLS, or an outage, and no OVN. Everything is below one directory;
the server ends with the `with` block.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from lab.rig.process import LabError, Process, run, wait_for
from lab.rig.running import Running
from ovs_metadata.host.ovsdb_call import call

NETWORK = str(UUID(int=7))


class Southbound(Running):
    """The database, empty at first.

    Args:
        root: where its files are; is made.
        schema: of the southbound database.
        tls: private key, certificate and CA certificate; without them it speaks plain TCP.
    """

    def __init__(
        self, root: Path, schema: Path, tls: tuple[Path, Path, Path] | None = None
    ) -> None:
        self._root = root
        self._schema = schema
        self._tls = tls
        self._port = 0
        self._process: Process | None = None
        self._datapath = ""
        self._keys = 0
        self._chassis = 0

    @property
    def remote(self) -> str:
        """Where it is, by TCP or TLS."""
        return f"{'ssl' if self._tls else 'tcp'}:127.0.0.1:{self._port}"

    def start(self) -> None:
        """Make the database and serve it, on a port that the kernel chooses."""
        self._root.mkdir(parents=True)
        run("ovsdb-tool", "create", self._root / "sb", self._schema)
        self.serve()
        answer = self.transact(_insert("Datapath_Binding", tunnel_key=1))
        self._datapath = answer[0]["uuid"][1]

    def serve(self) -> None:
        """Serve it, again at the same port if it was stopped."""
        log = self._root / "server.log"
        kind = "pssl" if self._tls else "ptcp"
        files: Sequence[str | Path] = ()
        if self._tls:
            names = ("private-key", "certificate", "ca-cert")
            files = [f"--{name}={path}" for name, path in zip(names, self._tls, strict=True)]
        log.unlink(missing_ok=True)
        self._process = Process(
            [
                *("ovsdb-server", self._root / "sb", f"--unixctl={self._root}/sb.ctl", *files),
                f"--remote=punix:{self._root}/sb.sock",
                f"--remote={kind}:{self._port}:127.0.0.1",
            ],
            log,
        )
        listening = re.compile(r"listening on port (\d+)")
        if not self._port:
            found = wait_for(lambda: listening.findall(log.read_text()), "a port to listen at")
            self._port = int(found[0])
        wait_until_it_answers(f"unix:{self._root}/sb.sock")

    def stop(self) -> None:
        """End the server; what it holds stays."""
        if self._process is not None:
            self._process.stop()
            (self._root / "sb.sock").unlink(missing_ok=True)

    def transact(self, *operations: dict[str, Any]) -> list[dict[str, Any]]:
        """Run operations of RFC 7047, all or none.

        Raises:
            LabError: the server refuses one.
        """
        answer: list[dict[str, Any]] = call(
            f"unix:{self._root}/sb.sock", 30, "transact", ["OVN_Southbound", *operations]
        )
        refused = [each for each in answer if each and "error" in each]
        if refused:
            raise LabError(str(refused))
        return answer

    def add_chassis(self, name: str) -> str:
        """Add a chassis; returns the UUID of its row."""
        self._chassis += 1
        address = f"127.0.0.{self._chassis}"
        encap = _insert("Encap", type="geneve", ip=address, chassis_name=name)
        encap["uuid-name"] = "encap"
        chassis = _insert("Chassis", name=name, encaps=["named-uuid", "encap"])
        uuid: str = self.transact(encap, chassis)[1]["uuid"][1]
        return uuid

    def add_ports(self, port_ids: Sequence[str], chassis: str = "", **external_ids: str) -> None:
        """Add bindings of instances' ports; an instance has the name of its port."""
        operations = []
        for port_id in port_ids:
            self._keys += 1
            high, low = divmod(self._keys, 256)
            address = f"10.{high // 256}.{high % 256}.{low}"
            ids = {
                "cidrs": f"{address}/8",
                "device_id": port_id,
                "device_owner": "compute:nova",
                "network_name": f"neutron-{NETWORK}",
                "project_id": "project",
                "revision_number": "1",
                **external_ids,
            }
            operations.append(
                _insert(
                    "Port_Binding",
                    logical_port=port_id,
                    datapath=["uuid", self._datapath],
                    tunnel_key=self._keys,
                    mac=f"fa:16:3e:00:{high % 256:02x}:{low:02x} {address}",
                    external_ids=_neutron(ids),
                    chassis=["uuid", chassis] if chassis else ["set", []],
                )
            )
        self.transact(*operations)

    def change_port(self, port_id: str, chassis: str | None = None, **external_ids: str) -> None:
        """Bind a port to a chassis (empty: to none), or give it other external_ids."""
        where = [["logical_port", "==", port_id]]
        operations: list[dict[str, Any]] = []
        if chassis is not None:
            row = {"chassis": ["uuid", chassis] if chassis else ["set", []]}
            operations.append({"op": "update", "table": "Port_Binding", "where": where, "row": row})
        if external_ids:
            ids = _neutron(external_ids)
            keys = ["set", [key for key, _ in ids[1]]]
            mutations = [["external_ids", "delete", keys], ["external_ids", "insert", ids]]
            operations.append(
                {"op": "mutate", "table": "Port_Binding", "where": where, "mutations": mutations}
            )
        self.transact(*operations)

    def remove_port(self, port_id: str) -> None:
        """Remove a port's binding."""
        where = [["logical_port", "==", port_id]]
        self.transact({"op": "delete", "table": "Port_Binding", "where": where})

    def disable(self, port_id: str) -> None:
        """Write the flow by which ovn-northd of OVN 23.03 drops what a disabled port sends."""
        self.transact(self._flow(f'inport == "{port_id}"', "reg0[15] = 1; next;"))

    def add_flows(self, count: int) -> None:
        """Add logical flows of ports that are elsewhere."""
        self.transact(*(self._flow(f'inport == "{uuid4()}"', "next;") for _ in range(count)))

    def enable(self, port_id: str) -> None:
        """Remove that flow."""
        where = [["match", "==", f'inport == "{port_id}"']]
        self.transact({"op": "delete", "table": "Logical_Flow", "where": where})

    def _flow(self, match: str, actions: str) -> dict[str, Any]:
        return _insert(
            "Logical_Flow",
            logical_datapath=["uuid", self._datapath],
            pipeline="ingress",
            table_id=0,
            priority=100,
            match=match,
            actions=actions,
        )


def wait_until_it_answers(remote: str) -> None:
    """Wait until an ovsdb-server takes calls; its socket is there a moment earlier."""

    def answers() -> bool:
        try:
            return "OVN_Southbound" in call(remote, 1, "list_dbs", [])
        except OSError:
            return False

    wait_for(answers, f"the southbound database at {remote}", 30)


def _insert(table: str, **row: object) -> dict[str, Any]:
    return {"op": "insert", "table": table, "row": row}


def _neutron(external_ids: dict[str, str]) -> list[Any]:
    return ["map", [[f"neutron:{key}", value] for key, value in external_ids.items()]]
