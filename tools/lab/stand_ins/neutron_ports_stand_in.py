"""The little of Neutron's API that lists ports and networks: by page, by id, the fields asked for.

`with NeutronPorts(ports) as api:` serves on a loopback port from a thread of its own; the ports may
be changed while it does. `python -m lab.stand_ins.neutron_ports_stand_in COUNT` serves so many
until it is ended by a signal, and prints its URL.
"""

import argparse
import bisect
import json
import threading
import urllib.parse
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from lab.rig.running import Running
from lab.stand_ins.neutron_port import Port, make_port


class NeutronPorts(Running):
    """A server of ports and networks.

    Attributes:
        ports: by id; a test may change them.
        networks: by id; a test may change them.
        hidden: fields that these credentials are not shown.
        page_limit: ports in a page at most, as Neutron's own setting pagination_max_limit.
        requests: the queries for ports so far.
    """

    def __init__(self, ports: Iterable[Port], *, page_limit: int = 1000) -> None:
        self.ports = {port["id"]: port for port in ports}
        self.networks: dict[str, dict[str, Any]] = {}
        self.hidden: set[str] = set()
        self.page_limit = page_limit
        self.requests: list[dict[str, list[str]]] = []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        """Status and document for a GET."""
        match path.rstrip("/"):
            case "":
                links = [{"rel": "self", "href": f"{self.url}/v2.0/"}]
                version = {"id": "v2.0", "status": "CURRENT", "links": links}
                return 200, {"versions": [version]}
            case "/v2.0":
                return 200, {"resources": []}
            case "/v2.0/ports":
                self.requests.append(query)
                return self._list("ports", self.ports, query)
            case "/v2.0/networks":
                return self._list("networks", self.networks, query)
        return 404, _fault(path)

    def _list(
        self, kind: str, there: dict[str, dict[str, Any]], query: dict[str, list[str]]
    ) -> tuple[int, Any]:
        wanted = query.get("id")
        if wanted is not None:
            ids = [each for each in wanted if each in there]
        else:
            ids = sorted(there)
            marker = query.get("marker", [""])[0]
            if marker and marker not in there:
                return 404, _fault(f"{marker} could not be found.")
            limit = min(int(query.get("limit", ["1000000"])[0]), self.page_limit)
            start = bisect.bisect_right(ids, marker)
            ids = ids[start : start + limit]
        fields = set(query.get("fields", ()))
        return 200, {
            kind: [
                {
                    name: value
                    for name, value in there[each].items()
                    if (not fields or name in fields) and name not in self.hidden
                }
                for each in ids
            ]
        }


class _Server(ThreadingHTTPServer):
    api: NeutronPorts
    daemon_threads = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        url = urllib.parse.urlsplit(self.path)
        status, document = cast(_Server, self.server).api.answer(
            url.path, urllib.parse.parse_qs(url.query)
        )
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""


def _fault(message: str) -> Any:
    return {"NeutronError": {"type": "NotFound", "message": message, "detail": ""}}


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, help="number of ports")
    options = parser.parse_args()
    with NeutronPorts(make_port(number) for number in range(options.count)) as api:
        print(api.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
