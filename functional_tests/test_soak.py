"""No guest gets another instance's identity while ports move: `make soak`, in short."""

from collections.abc import Iterator

import pytest

from lab.load.soak import Soak, report
from lab.rig.hypervisor import Hypervisor

WAYS = {"ipv4-new", "ipv4-kept", "ipv4-other", "ipv6-new", "ipv6-kept", "ipv6-other"}


@pytest.fixture
def without(request: pytest.FixtureRequest) -> str:
    """The part of the agent to break; none by default."""
    return str(getattr(request, "param", ""))


@pytest.fixture
def soak(without: str) -> Iterator[Soak]:
    with Soak(seed=20, without=without) as running:
        yield running


@pytest.mark.timeout(240)
def test_no_answer_has_the_identity_of_another_instance(soak: Soak) -> None:
    verdict = soak.run(answers=15_000, timeout=180)
    assert verdict.answered >= 15_000
    assert {way for outcome, way in verdict.outcomes if outcome == "200"} == WAYS
    assert not verdict.wrong, report(soak, verdict)


@pytest.mark.parametrize("without", ["cross-check"], indirect=True)
def test_the_soak_notices_when_vm_uuid_is_not_compared_with_the_record(soak: Soak) -> None:
    verdict = soak.run(answers=3_000, timeout=60, only=["stale_vm_uuid"])
    assert verdict.wrong


@pytest.mark.parametrize("without", ["updates"], indirect=True)
def test_the_soak_notices_when_identities_do_not_follow_the_ports(soak: Soak) -> None:
    verdict = soak.run(answers=2_000, timeout=60, only=["swap_numbers", "replug_crosswise"])
    assert any(_is_another_guests(soak, answer.guest, answer.body) for answer in verdict.wrong)


@pytest.mark.parametrize("without", ["addresses"], indirect=True)
def test_the_soak_notices_when_a_connection_is_another_ports(soak: Soak) -> None:
    verdict = soak.run(answers=500, timeout=60, only=["change_fixed_ip"])
    assert {way for _outcome, way in verdict.outcomes} == WAYS
    assert {answer.way for answer in verdict.wrong} == WAYS
    assert all(_is_another_guests(soak, answer.guest, answer.body) for answer in verdict.wrong)


@pytest.mark.parametrize("without", ["haste"], indirect=True)
def test_an_agent_that_lags_behind_ovsdb_misleads_no_guest(soak: Soak) -> None:
    verdict = soak.run(answers=8_000, timeout=90, only=["swap_numbers"])
    assert not verdict.wrong, report(soak, verdict)


@pytest.mark.parametrize("without", ["confirmation"], indirect=True)
def test_the_soak_notices_when_answers_do_not_wait_for_a_confirmation(soak: Soak) -> None:
    verdict = soak.run(answers=8_000, timeout=90, only=["swap_numbers"])
    assert any(_is_another_guests(soak, answer.guest, answer.body) for answer in verdict.wrong)


def _is_another_guests(soak: Soak, guest: str, instance: str) -> bool:
    hypervisor: Hypervisor = soak.hypervisor
    return instance in {each.instance_id for each in hypervisor.guests if each.name != guest}
