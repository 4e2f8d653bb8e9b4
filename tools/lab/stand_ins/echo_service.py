"""A Nova for tests of what arrives there: it answers with the request's own headers.

The answer is a JSON list of [name, value] pairs, in the order received. `?delay=SECONDS` has it
wait before it answers. `python -m lab.stand_ins.echo_service ADDRESS PORT` serves, a thread for
each connection, until it is ended.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

READY = "echo service is ready"
"""Printed as soon as connections are accepted."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        time.sleep(float(query.get("delay", ["0"])[0]))
        body = json.dumps(self.headers.items()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve at the address and port of the command line."""
    address, port = sys.argv[1:]
    with ThreadingHTTPServer((address, int(port)), _Handler) as server:
        print(READY, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
