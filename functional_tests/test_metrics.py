"""What is seen from outside: metrics, health, ports and the access log; and who may see it."""

import json
import os
import re
import signal
from pathlib import Path

from hypervisor_fixtures import Factory
from prometheus_client.parser import text_string_to_metric_families

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from ovs_metadata.host.address import PROXY_PORT
from ovs_metadata.passwords import hashed

ADMIN = "127.0.0.1:9775"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def ask(hypervisor: Hypervisor, path: str, *options: str) -> tuple[int, str]:
    """Ask the admin listener, from within the host's namespace; status 0 is no answer."""
    output = run(
        *("ip", "netns", "exec", hypervisor.namespace, "curl", "--silent", "--max-time", "5"),
        *("--write-out", "\n%{http_code}", *options, f"http://{ADMIN}{path}"),
        check=False,
    )
    body, _, status = output.rpartition("\n")
    return int(status), body


def scrape(hypervisor: Hypervisor) -> Samples:
    """All samples there are, by name and labels."""
    status, text = ask(hypervisor, "/metrics")
    assert status == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(
        value
        for (found, its), value in samples.items()
        if found == f"ovs_metadata_{name}" and labels.items() <= dict(its).items()
    )


def wait_for_total(hypervisor: Hypervisor, expected: float, name: str, **labels: str) -> Samples:
    """Wait until the workers have reported that many; returns the samples then."""

    def reported() -> Samples:
        samples = scrape(hypervisor)
        return samples if total(samples, name, **labels) == expected else {}

    return wait_for(reported, f"{name} {labels} to be {expected}", 15)


def counters(samples: Samples) -> Samples:
    """Those samples that may never go down."""
    ends = ("_total", "_count", "_sum", "_bucket")
    return {key: value for key, value in samples.items() if key[0].endswith(ends)}


def worker_pids(hypervisor: Hypervisor) -> set[int]:
    agent = hypervisor.processes["agent"].pid
    pids = map(int, Path(f"/proc/{agent}/task/{agent}/children").read_text().split())
    return {
        pid
        for pid in pids
        if b"ovs_metadata.proxy.main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


def test_counters_stay_right_when_workers_are_killed(two_workers: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = two_workers
    for _ in range(4):
        assert guest.identity() == guest.instance_id
    assert guest.curl("/nothing/of/the/kind")[0] == 404
    wait_for_total(hypervisor, 5, "requests_total", status="200", cause="answered")
    before = wait_for_total(hypervisor, 6, "requests_total")
    assert total(before, "request_duration_seconds_count") == 6
    assert total(before, "workers") == 2

    killed = worker_pids(hypervisor)
    assert len(killed) == 2
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_for_total(hypervisor, 2, "worker_restarts_total")
    after = wait_for_total(hypervisor, 2, "workers")
    assert worker_pids(hypervisor).isdisjoint(killed)
    for key, value in counters(before).items():
        assert after[key] >= value, key

    for _ in range(3):
        assert guest.identity() == guest.instance_id
    later = wait_for_total(hypervisor, 9, "requests_total")
    assert total(later, "requests_total", status="200", cause="answered") == 8
    assert total(later, "requests_total", status="404", cause="answered") == 1
    assert total(later, "request_duration_seconds_count") == 9
    assert total(later, "request_first_byte_seconds_count") == 9
    assert total(later, "request_duration_seconds_bucket", le="+Inf") == 9


def test_what_the_proxy_answers_itself_has_its_cause(two_workers: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = two_workers
    wait_for_total(hypervisor, 1, "requests_total")
    hypervisor.processes["metadata-service"].stop()
    assert guest.curl()[0] == 503
    samples = wait_for_total(hypervisor, 1, "requests_total", status="503", cause="no_endpoint")
    # Of the two workers, the other one may not have noticed it yet.
    assert total(samples, "endpoint_healthy", endpoint=hypervisor.nova) < 2
    # Nova and the record disagree about whose port it is.
    doubtful = hypervisor.add_guest("doubtful", plug=False)
    doubtful.plug(hypervisor.ovs, hypervisor.bridge, **{"vm-uuid": guest.instance_id})
    hypervisor.wait_until_served(doubtful)
    wait_for_total(hypervisor, 1, "ports", state="pending")
    assert doubtful.curl()[0] == 503
    wait_for_total(hypervisor, 1, "requests_total", status="503", cause="not_ready")


def test_flows_that_another_program_deletes_are_counted(
    two_workers: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = two_workers

    def flows(state: str) -> float:
        return total(scrape(hypervisor), "flows", state=state)

    wait_for(lambda: flows("wanted"), "the controller's report", 15)
    assert total(scrape(hypervisor), "flow_controller_connected") == 1
    before = total(scrape(hypervisor), "flows_repaired_total")
    hypervisor.ovs.ofctl("del-flows", hypervisor.bridge, "table=200")
    wait_for(lambda: total(scrape(hypervisor), "flows_repaired_total") > before, "the repair", 15)
    assert guest.identity() == guest.instance_id


def test_ports_show_what_they_were_last_answered(two_workers: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = two_workers
    quiet = hypervisor.add_guest("quiet")
    hypervisor.wait_until_served(quiet)
    assert guest.curl("/nothing")[0] == 404
    wait_for_total(hypervisor, 2, "requests_total")
    status, body = ask(hypervisor, "/ports")
    assert status == 200
    ports = {port["port_id"]: port for port in json.loads(body)["ports"]}
    assert set(ports) == {guest.port_id, quiet.port_id}
    served = ports[guest.port_id]
    assert served["instance_id"] == guest.instance_id
    assert hypervisor.port_address(guest) in served["addresses"]
    assert (served["requests"], served["last_status"]) == (2, 404)
    assert (ports[quiet.port_id]["requests"], ports[quiet.port_id]["last_time"]) == (0, None)


def test_health_tells_ready_from_alive(two_workers: tuple[Hypervisor, Guest]) -> None:
    hypervisor, _ = two_workers
    wait_for(lambda: ask(hypervisor, "/healthz")[0] == 200, "readiness")
    hypervisor.ovs.vsctl("del-br", hypervisor.bridge)
    wait_for(lambda: ask(hypervisor, "/healthz")[0] == 503, "its end")
    health = json.loads(ask(hypervisor, "/healthz/ready")[1])
    assert health["alive"] is True
    assert health["ready"] is False
    assert "bridge" in health["problems"][0]
    assert ask(hypervisor, "/healthz/live")[0] == 200
    assert total(scrape(hypervisor), "ready") == 0
    hypervisor.ovs.add_bridge(hypervisor.bridge)
    wait_for(lambda: ask(hypervisor, "/healthz")[0] == 200, "readiness again", 20)


def test_guests_cannot_reach_the_admin_listener(two_workers: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = two_workers
    for destination in ("169.254.169.254:9775", "[fe80::a9fe:a9fe%25eth0]:9775"):
        url = f"http://{destination}/metrics"
        # Through the switch: nothing but the service's port leads anywhere.
        answer = run(
            *("ip", "netns", "exec", guest.name, "curl", "--silent", "--max-time", "2", url),
            check=False,
        )
        assert answer == ""
    # Nor does it listen where the guests' connections end.
    listening = run("ip", "netns", "exec", hypervisor.metadata_namespace, "ss", "-Htln")
    ports = {line.split()[3].rpartition(":")[2] for line in listening.splitlines()}
    assert ports == {str(PROXY_PORT)}
    # And what they ask of the service goes to Nova, whatever host they name.
    status, body = guest.curl("/metrics", "--header", f"Host: {ADMIN}")
    assert status == 404
    assert "ovs_metadata_" not in body
    assert ask(hypervisor, "/metrics")[0] == 200


def test_the_admin_listener_can_be_a_unix_socket_or_nothing(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    path = hypervisor.root / "admin.sock"
    hypervisor.configure(admin={"listen": f"unix:{path}"})
    agent = hypervisor.start_agent()
    assert path.stat().st_mode & 0o777 == 0o600
    assert ask(hypervisor, "/healthz/live", "--unix-socket", str(path))[0] == 200
    assert ask(hypervisor, "/healthz/live")[0] == 0
    agent.stop()
    assert not path.exists()
    hypervisor.configure(admin={"listen": ""})
    hypervisor.start_agent()
    assert not path.exists()
    assert ask(hypervisor, "/healthz/live")[0] == 0


def test_another_machine_needs_tls_and_a_password_and_guests_reach_nothing(
    lab_hypervisor: Factory,
) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    files = {name: hypervisor.root / name for name in ("server.crt", "server.key", "users")}
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=cn-1"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(files["server.key"])),
        *("-out", str(files["server.crt"])),
    )
    files["users"].touch(0o600)
    files["users"].write_text(f"prometheus:{hashed('secret', bytes(16))}\n")
    hypervisor.configure(
        admin={
            "listen": "0.0.0.0:9775",
            "tls_cert_file": str(files["server.crt"]),
            "tls_key_file": str(files["server.key"]),
            "users_file": str(files["users"]),
        }
    )
    hypervisor.start_agent()
    guest = hypervisor.add_guest("guest")
    url = f"https://{ADMIN}/metrics"
    curl = ("curl", "--silent", "--max-time", "5", "--cacert", str(files["server.crt"]))
    inside = ("ip", "netns", "exec", hypervisor.namespace)
    code = ("--output", "/dev/null", "--write-out", "%{http_code}")
    assert run(*inside, *curl, *code, url) == "401"
    assert run(*inside, *curl, *code, "--user", "prometheus:wrong", url) == "401"
    assert "ovs_metadata_ready" in run(*inside, *curl, "--user", "prometheus:secret", url)
    assert run(*inside, *curl, url.replace("https", "http"), check=False) == ""
    for scheme in ("https", "http"):
        through = f"{scheme}://169.254.169.254:9775/metrics"
        assert run(*("ip", "netns", "exec", guest.name), *curl, "-k", through, check=False) == ""


def test_each_request_is_a_line_of_the_log(two_workers: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = two_workers
    log = hypervisor.processes["agent"].log
    guest.curl('/a"b', "--header", "X-Secret: unspeakable", "--data", "body-of-the-request")
    line = wait_for(
        lambda: next((it for it in log.read_text().splitlines() if 'path="/a' in it), ""),
        "the line of the request",
    )
    assert re.fullmatch(
        r"proxy worker [01]: time=20\S+Z peer=10\.\d+\.\d+\.\d+ port_address=169\.254\.\d+\.\d+"
        rf' port="{guest.port_id}" instance="{guest.instance_id}" method="POST" path="/a\\"b"'
        r" status=\d+ bytes=\d+ duration_ms=\d+\.\d{3} first_byte_ms=\d+\.\d{3}"
        r" request_id=req-[0-9a-f-]{36} cause=answered",
        line,
    )
    text = log.read_text()
    assert "unspeakable" not in text
    assert "body-of-the-request" not in text
