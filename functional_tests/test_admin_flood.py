"""A user of the hypervisor holds as many connections to the admin listener as there can be."""

import contextlib
import json
import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory, serve_guest

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, run, wait_for
from lab.rig.usage import Usage
from ovs_metadata.agent.admin import limited_listener

pytestmark = pytest.mark.timeout(300)

CONNECTIONS = 1500
DESCRIPTORS = 1024
"""What a process started by hand may have open, mostly."""

ROUNDS = 100
"""Connections that the agent has to close until the test has seen enough: some seconds."""

MAX_CPU = 0.4
"""Share of a processor that the agent may use meanwhile."""

MAX_LOG = 100_000

FLOOD = """
import os, pwd, resource, selectors, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
os.setuid(pwd.getpwnam("nobody").pw_uid)
request = b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n"
kinds = (b"", request[:20], request, b"\\xff\\0\\r\\n" * 2000)
waiting = selectors.DefaultSelector()

def connect(kind):
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", 9775))
    waiting.register(connection, selectors.EVENT_WRITE, kind)

for number in range(int(sys.argv[1])):
    connect(kinds[number % len(kinds)])
ended = 0
while True:
    for key, events in waiting.select():
        connection = key.fileobj
        try:
            if events & selectors.EVENT_WRITE:
                connection.send(key.data)
                waiting.modify(connection, selectors.EVENT_READ, key.data)
            elif connection.recv(1 << 20):
                continue
            else:
                raise ConnectionResetError
        except OSError:
            waiting.unregister(connection)
            connection.close()
            connect(key.data)
            ended += 1
            print(ended, flush=True)
"""
"""Idle connections, begun requests, whole ones and nonsense; each is opened again when it ends."""


@contextlib.contextmanager
def flood(hypervisor: Hypervisor) -> Iterator[Process]:
    attack = hypervisor.spawn("flood", sys.executable, "-c", FLOOD, str(CONNECTIONS))
    try:
        yield attack
    finally:
        attack.stop()


def ended(attack: Process) -> int:
    """Connections that have ended so far."""
    counts = re.findall(r"^(\d+)$", attack.log.read_text(), re.MULTILINE)
    return int(counts[-1]) if counts else 0


def test_the_agent_goes_on_with_its_work(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    guest = serve_guest(hypervisor)
    agent = hypervisor.processes["agent"]
    _, hard = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    descriptors = Path(f"/proc/{agent.pid}/fd")
    open_before, log_before = len(os.listdir(descriptors)), agent.log.stat().st_size
    worker = hypervisor.children()["ovs_metadata.proxy.main"]

    with flood(hypervisor) as attack:
        wait_for(lambda: ended(attack) >= limited_listener.AT_ONCE, "the attack", 30)
        used, began, done = Usage.of(agent.pid).cpu, time.monotonic(), ended(attack)

        os.kill(worker, 9)
        wait_for(lambda: guest.identity() == guest.instance_id, "another worker", 20)
        assert hypervisor.children()["ovs_metadata.proxy.main"] != worker
        status = json.loads(
            run(
                *("ip", "netns", "exec", hypervisor.namespace),
                *(Path(sys.executable).parent / "ovs-metadata", "--config", hypervisor.config),
                *("status", "--wait", "30", "--format", "json"),
            )
        )
        assert status["agent"]["pid"] == agent.pid
        assert status["serving"]

        wait_for(lambda: ended(attack) >= done + ROUNDS, "the attack to go on", 60)
        seconds, used = time.monotonic() - began, Usage.of(agent.pid).cpu - used
        assert len(os.listdir(descriptors)) <= open_before + limited_listener.MAX_CONNECTIONS + 5
        assert used / seconds < MAX_CPU
        assert agent.log.stat().st_size - log_before < MAX_LOG
