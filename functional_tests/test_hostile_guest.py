"""What one guest can use up, and that another does not notice: every limit of the proxy, for real.

A worker process with guests on loopback addresses, so that the outcome does not depend on anything
but the proxy; the last test goes through the switch. Nothing here is timed but by generous
deadlines: how much slower another guest gets is for benchmarks/worst_guest.py.
"""

import contextlib
import re
import select
import socket
import threading
import time
from pathlib import Path

import pytest
from hostile_guest_support import (
    BIG_SIZE,
    BYSTANDER,
    DEADLINE,
    GET,
    HOSTILE,
    MEMORY_GROWTH,
    Start,
    Talk,
    ask,
    attack,
    start,
    tally,
)

from lab.attack.hostile_guest import ACTS, BIG
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import wait_for
from lab.rig.proxy_process import guest_address

__all__ = ["start"]


@pytest.mark.alone
def test_ten_thousand_connections_are_cut_down_to_the_limit(start: Start, tmp_path: Path) -> None:
    proxy = start(max_connections_per_port=20, idle_timeout=30.0)
    assert ask(proxy) == 200
    before, descriptors = proxy.memory(), 0
    target = f"{guest_address(HOSTILE)}:{proxy.port}"
    flood = attack(tmp_path / "flood.log", target, "flood", seconds=6, width=10_000)
    with flood as attacker:
        while attacker.alive():
            assert ask(proxy) == 200
            descriptors = max(descriptors, proxy.descriptors())
        assert tally(attacker)["attempts"] >= 10_000
    # As many again may be refused politely; the rest is for listeners, Nova and the bystander, and
    # for what one turn of the event loop has accepted.
    assert descriptors < 2 * 20 + 100
    assert proxy.memory() - before < MEMORY_GROWTH


def test_a_connection_over_the_limit_gets_503(start: Start) -> None:
    proxy = start(max_connections_per_port=5, send_timeout=30.0)
    with contextlib.ExitStack() as stack:
        talks = [stack.enter_context(Talk(proxy, HOSTILE)) for _ in range(5)]
        for talk in talks:
            unread(talk)
        with Talk(proxy, HOSTILE) as extra:
            data = extra.rest()
        assert data.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in data
        assert ask(proxy, BYSTANDER) == 200
        assert [talk.answer()[0] for talk in talks] == 5 * [200]
    wait_for(lambda: ask(proxy, HOSTILE) == 200, "room for another connection")


def test_ipv4_and_ipv6_connections_of_a_port_count_together(start: Start) -> None:
    proxy = start(max_connections_per_port=4, max_requests_per_port=4, send_timeout=30.0)
    with contextlib.ExitStack() as stack:
        for ipv6 in (False, True, False, True):
            talk = stack.enter_context(Talk(proxy, HOSTILE, ipv6=ipv6))
            unread(talk)
            assert talk.sock.recv(1)  # the two listeners accept in no certain order
        assert ask(proxy, HOSTILE) == 503
        assert ask(proxy, HOSTILE, ipv6=True) == 503


def test_a_worker_that_is_full_takes_from_the_port_that_has_most(start: Start) -> None:
    proxy = start(max_connections=40, max_connections_per_port=64, idle_timeout=30.0)
    with contextlib.ExitStack() as stack:
        hogs = [stack.enter_context(Talk(proxy, HOSTILE)) for _ in range(40)]
        for talk in hogs:
            assert talk.ask()[0] == 200
        others = [stack.enter_context(Talk(proxy, number)) for number in range(3, 10)]
        assert [talk.ask()[0] for talk in others] == 7 * [200]
        assert [talk.ask()[0] for talk in others] == 7 * [200]
        left = 0
        for talk in hogs:
            with contextlib.suppress(ConnectionError):  # a reset
                left += talk.ask()[0] == 200
        assert left == 40 - 7


@pytest.mark.parametrize(
    ("first", "trickle", "answer"),
    [
        (b"", b"", b""),
        (GET[:-2] + b"A: ", b"b", b"HTTP/1.1 408 "),
        (b"GET /", b"b", b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999\r\n\r\n", b"b", b"HTTP/1.1 408 "),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nb\r\n",
            b"HTTP/1.1 408 ",
        ),
    ],
    ids=["silent", "slow head", "slow target", "slow body", "slow chunks"],
)
def test_a_slow_sender_is_not_waited_for(
    start: Start, first: bytes, trickle: bytes, answer: bytes
) -> None:
    proxy = start()
    with Talk(proxy, HOSTILE) as talk:
        began = time.monotonic()
        talk.sock.sendall(first)
        talk.sock.settimeout(0.1)
        data = None
        while data is None and time.monotonic() < began + DEADLINE:
            with contextlib.suppress(TimeoutError):
                data = talk.sock.recv(65536)
            with contextlib.suppress(ConnectionError):
                talk.sock.sendall(trickle)
        assert data is not None, "the connection goes on for ever"
        assert data[: len(answer)] == answer
        assert bool(data) == bool(answer)
        assert time.monotonic() - began >= 0.9


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"Content-Length: 10000000000\r\n\r\n", b"b" * 65536),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"b" * 65536 + b"\r\n"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"a" * 65536 + b"\r\nb\r\n"),
    ],
    ids=["length", "chunks", "chunk extensions"],
)
def test_an_endless_body_ends(start: Start, head: bytes, piece: bytes) -> None:
    proxy = start(body_timeout=30.0, linger_timeout=10.0)
    before = proxy.memory()
    with Talk(proxy, HOSTILE) as talk:
        talk.sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\n" + head)
        # Input is still discarded for the linger time, so that the answer can be read.
        with pytest.raises(ConnectionError):
            send_on_and_on(talk.sock, piece)
    assert proxy.memory() - before < MEMORY_GROWTH
    with Talk(proxy, HOSTILE) as talk:
        # More than a body may have, but little enough to be read to its end.
        talk.sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\n" + head + 20 * piece)
        assert talk.rest().startswith(b"HTTP/1.1 413 ")


def send_on_and_on(sock: socket.socket, piece: bytes) -> None:
    """Send for as long as a test may last; raises ConnectionError when the other side closes."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        sock.sendall(piece)


def test_thousands_of_requests_in_one_go_are_answered_in_order_and_not_all_kept(
    start: Start,
) -> None:
    proxy = start(send_timeout=30.0)
    before = proxy.memory()
    last = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    with Talk(proxy, HOSTILE) as talk:
        sender = threading.Thread(target=talk.sock.sendall, args=(2_999 * GET + last,))
        sender.start()
        answers = talk.rest()
        sender.join()
    numbers = [int(number) for number in re.findall(rb"\r\nRecord: ([0-9]+)\r\n", answers)]
    assert numbers == sorted(numbers)
    assert len(numbers) == 3_000
    assert proxy.memory() - before < MEMORY_GROWTH


def unread(talk: Talk) -> None:
    """Ask for a large answer, which the kernel must not take on the guest's behalf either."""
    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    talk.sock.sendall(f"GET {BIG} HTTP/1.1\r\nHost: h\r\n\r\n".encode())


def test_requests_wait_only_for_those_of_their_own_port(start: Start) -> None:
    proxy = start(max_requests_per_port=2, send_timeout=3.0)
    with Talk(proxy, HOSTILE) as one, Talk(proxy, HOSTILE) as two, Talk(proxy, HOSTILE) as waiting:
        unread(one)
        unread(two)
        waiting.sock.sendall(GET)
        for _ in range(20):
            assert ask(proxy, BYSTANDER) == 200
        ready, _, _ = select.select([waiting.sock], [], [], 0)
        assert not ready, "it did not wait for its turn"
        # Its turn comes when the others have been given up.
        assert waiting.answer()[0] == 200


def test_an_answer_read_slowly_is_given_up_in_the_end(start: Start) -> None:
    proxy = start(answer_timeout=3.0, send_timeout=30.0)
    with Talk(proxy, HOSTILE) as talk:
        unread(talk)
        with pytest.raises(ConnectionResetError):
            read_slowly(talk.sock, BIG_SIZE)


def read_slowly(sock: socket.socket, size: int) -> None:
    """Read at most a megabyte per second, and not all of it."""
    end = time.monotonic() + DEADLINE
    while size > 20_000 and time.monotonic() < end:
        size -= len(sock.recv(20_000))
        time.sleep(0.02)


def test_a_port_that_goes_on_opening_connections_is_shut_out_for_a_while(start: Start) -> None:
    proxy = start(max_connections_per_port=5, quarantine=2.0, idle_timeout=30.0, send_timeout=30.0)
    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(Talk(proxy, HOSTILE))
        unread(kept)

        def shut_out() -> bool:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.3)
            try:
                sock.connect((guest_address(HOSTILE), proxy.port))
            except TimeoutError:
                return True
            except ConnectionError:
                return False  # turned away, but not yet shut out
            return False

        wait_for(shut_out, "the port to be shut out")
        assert ask(proxy, BYSTANDER) == 200
        assert kept.answer()[0] == 200, "what was open stays open"
    wait_for(lambda: ask(proxy, HOSTILE) == 200, "the end of its quarantine", DEADLINE)


def test_answers_left_unread_are_not_kept_in_memory_and_given_up(start: Start) -> None:
    proxy = start(send_timeout=2.0, max_requests_per_port=20)
    assert ask(proxy) == 200
    before, idle = proxy.memory(), proxy.descriptors()
    with contextlib.ExitStack() as stack:
        talks = [stack.enter_context(Talk(proxy, HOSTILE)) for _ in range(20)]
        for talk in talks:
            unread(talk)
        assert ask(proxy) == 200
        wait_for(lambda: proxy.descriptors() <= idle, "the unread answers' end", 2 * DEADLINE)
        assert ask(proxy) == 200
        # 320 MiB were on their way.
        assert proxy.memory() - before < MEMORY_GROWTH
        for talk in talks:
            assert len(talk.rest()) < BIG_SIZE  # never one that looks whole


RATE = {"rate_limit": 10.0, "rate_limit_burst": 30}


def test_a_boot_passes_the_rate_limit_and_a_storm_does_not(start: Start) -> None:
    proxy = start(**RATE)
    assert [ask(proxy, HOSTILE) for _ in range(28)] == 28 * [200]
    statuses = []
    for _ in range(100):
        with Talk(proxy, HOSTILE) as talk:
            status, head = talk.ask()
            statuses.append(status)
            # It says when to come back.
            assert (status == 429) == (re.search(rb"\r\nRetry-After: [1-9]", head) is not None)
    assert set(statuses) == {200, 429}
    assert [ask(proxy, BYSTANDER) for _ in range(28)] == 28 * [200]
    wait_for(lambda: ask(proxy, HOSTILE) == 200, "the rate limit to let it ask again")


def test_ipv4_and_ipv6_requests_of_a_port_count_together(start: Start) -> None:
    proxy = start(rate_limit=0.1, rate_limit_burst=10)
    statuses = [ask(proxy, HOSTILE, ipv6=turn % 2 == 1) for turn in range(14)]
    assert statuses == 10 * [200] + 4 * [429]


@pytest.mark.alone
@pytest.mark.timeout(180)
def test_everything_at_once_costs_another_guest_nothing(start: Start, tmp_path: Path) -> None:
    proxy = start()
    assert ask(proxy) == 200
    idle, before = proxy.descriptors(), proxy.memory()
    statuses: list[int] = []
    descriptors = 0
    storm = attack(
        tmp_path / "storm.log",
        f"{guest_address(HOSTILE)}:{proxy.port}",
        *ACTS,
        seconds=8,
        width=12,
    )
    with storm as attacker:
        while attacker.alive():
            statuses.append(ask(proxy))
            descriptors = max(descriptors, proxy.descriptors())
        done = tally(attacker)
    assert set(statuses) == {200}
    assert set(done) >= set(ACTS), f"an act was never done: {done}"
    assert descriptors < idle + 2 * 64 + 64 + 100
    assert proxy.memory() - before < 2 * MEMORY_GROWTH
    wait_for(lambda: proxy.descriptors() <= idle + 64, "its connections to be gone", DEADLINE)
    assert ask(proxy, HOSTILE) == 200


@pytest.mark.alone
@pytest.mark.timeout(240)
def test_through_the_switch_another_guest_is_answered_all_the_time(
    hypervisor: Hypervisor, tmp_path: Path
) -> None:
    hostile, bystander = hypervisor.add_guest("bad"), hypervisor.add_guest("good")
    for guest in (hostile, bystander):
        hypervisor.wait_until_served(guest)
    storm = attack(
        tmp_path / "storm.log",
        "169.254.169.254:80",
        *(act for act in ACTS if act != "unread"),
        seconds=8,
        width=8,
        namespace=hostile.name,
    )
    with storm as attacker:
        answers = []
        while attacker.alive():
            answers.append(bystander.identity())
        done = tally(attacker)
    assert done["connected"] > 100, done
    assert set(answers) == {bystander.instance_id}
    # Its port's meter may drop the resets with which it ends: what it left open makes way.
    wait_for(lambda: own_identity(hostile), "the hostile guest to be served again", DEADLINE)


def own_identity(guest: Guest) -> bool:
    return guest.identity() == guest.instance_id
