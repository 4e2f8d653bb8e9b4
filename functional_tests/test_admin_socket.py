"""Who answers the commands: the agent, and no user of the hypervisor."""

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lab.rig.process import wait_for
from ovs_metadata.cli.admin_client import AgentUnreachable, ask

POSER = """
import http.server, os, pwd, socketserver, sys
os.setuid(pwd.getpwnam(sys.argv[2]).pw_uid)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"host": "cn-1", "ready": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self):
        return "poser"
socketserver.UnixStreamServer(sys.argv[1], Handler).serve_forever()
"""


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_an_answer_of_another_user_is_not_believed(user: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        check(Path(directory, "admin.sock"), user)


def check(path: Path, user: str) -> None:
    with subprocess.Popen([sys.executable, "-c", POSER, str(path), user]) as poser:
        try:
            wait_for(lambda: listens(path), "the poser")
            path.chmod(0o777)
            if user == "root":
                assert ask(path, "/healthz")["ready"] is True
            else:
                with pytest.raises(AgentUnreachable, match="and not root"):
                    ask(path, "/healthz")
        finally:
            poser.kill()
