"""The little of Neutron's API that Nova's metadata API asks for: ports, security groups, subnets.

Every port of an instances file has the one security group, and no subnet belongs to a metadata
provider. The file is read for every request: instances added to it are known at once. `python -m
lab.stand_ins.neutron_stand_in` serves until it is ended by a signal, as one process with no threads
and no state.
"""

import argparse
import asyncio
import json
import urllib.parse
import uuid
from pathlib import Path
from typing import Any, cast

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPServerRequest, ResponseStartLine
from tornado.netutil import bind_sockets

from lab.stand_ins.metadata_instance import load_instances
from lab.stand_ins.metadata_tree import SECURITY_GROUP

GROUP_ID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "security-group.lab"))
READY = "Neutron stand-in listening on port "


def answer(path: str, query: str, instances_file: Path) -> tuple[int, dict[str, Any]]:
    """Status and body for a GET of `path` with `query`; the filters of the query are honoured."""
    filters = urllib.parse.parse_qs(query)
    match path.removesuffix(".json"):
        case "/v2.0/ports":
            ports = [
                {
                    "id": interface.port_id,
                    "device_id": instance.uuid,
                    "security_groups": [GROUP_ID],
                }
                for instance in load_instances(instances_file)
                for interface in instance.interfaces
                if instance.uuid in filters.get("device_id", [instance.uuid])
            ]
            return 200, {"ports": ports}
        case "/v2.0/security-groups":
            groups = [{"id": GROUP_ID, "name": SECURITY_GROUP}]
            wanted = filters.get("id", [GROUP_ID])
            return 200, {"security_groups": groups if GROUP_ID in wanted else []}
        case "/v2.0/subnets":
            return 200, {"subnets": []}
    return 404, {"NeutronError": {"type": "NotFound", "message": path, "detail": ""}}


async def _serve(address: str, port: int, instances_file: Path) -> None:
    def handle(request: HTTPServerRequest) -> None:
        status, document = answer(request.path, request.query, instances_file)
        body = json.dumps(document).encode()
        headers = HTTPHeaders(
            {"Content-Type": "application/json", "Content-Length": str(len(body))}
        )
        # Tornado sets the connection of every request it hands over.
        connection = cast("HTTPConnection", request.connection)
        connection.write_headers(ResponseStartLine("HTTP/1.1", status, ""), headers, body)
        connection.finish()

    sockets = bind_sockets(port, address)
    server = HTTPServer(handle)
    server.add_sockets(sockets)
    print(f"{READY}{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(prog="lab.stand_ins.neutron_stand_in")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 for any free one; it is printed")
    parser.add_argument("--instances", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.address, arguments.port, arguments.instances))


if __name__ == "__main__":
    main()
