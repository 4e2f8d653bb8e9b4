"""The identity table."""

import dataclasses
from typing import Any

import pytest
from proxy_support import identity, identity_lines

from ovs_metadata.proxy.control.identity import (
    Entry,
    Identity,
    IdentityTable,
    Pending,
    canonical_address,
)


def test_the_header_block_is_built_once_and_complete() -> None:
    assert identity(7).header_block == identity_lines(7)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("instance_id", "a\r\nX-Instance-ID: b"),
        ("project_id", ""),
        ("project_id", "two words"),
        ("signature", "caf\xe9"),
        ("port_id", "\x00"),
        ("fixed_ip", "10.0.0.1, 10.0.0.2"),
        ("fixed_ip", "10.0.0.1\r\n"),
        ("fixed_ip", ""),
    ],
)
def test_a_value_that_is_not_fit_for_a_header_is_refused(name: str, value: str) -> None:
    changes: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(identity(2), **changes)


def test_the_signature_is_never_shown() -> None:
    assert "signature-2" not in repr(identity(2))
    with pytest.raises(ValueError, match="signature") as caught:
        dataclasses.replace(identity(2), signature="se cret")
    assert "se cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (identity(2), True),
        (dataclasses.replace(identity(2), signature="new", fixed_ip="10.9.9.9"), True),
        (dataclasses.replace(identity(2), port_id="other"), False),
        (dataclasses.replace(identity(2), instance_id="other"), False),
        (dataclasses.replace(identity(2), project_id="other"), False),
        (Pending("port-2", "why"), False),
        (None, False),
    ],
)
def test_an_identity_knows_its_own_instance(other: Entry | None, *, same: bool) -> None:
    assert identity(2).same_instance(other) is same


def test_addresses_have_one_spelling() -> None:
    assert canonical_address("FE80:0::A9FE:5%tap0") == "fe80::a9fe:5"
    table = IdentityTable({"fe80:0:0::a9fe:0005": identity(5)})
    assert table.get("fe80::a9fe:5") == identity(5)
    with pytest.raises(ValueError, match="nonsense"):
        table.set("nonsense", identity(5))


def test_a_sub_port_that_is_not_known_yet_is_waited_for() -> None:
    table = IdentityTable({"240.1.0.5": identity(1)})
    assert table.awaited("240.1.0.5") == identity(1)
    for address in ("240.2.0.5", "255.254.0.5", "fe80::a9fe:1:5"):
        assert table.get(address) is None
        assert isinstance(table.awaited(address), Pending)
    for address in ("169.254.0.5", "fe80::a9fe:5", "10.0.0.5"):
        assert table.awaited(address) is None


def test_listeners_get_real_changes_only() -> None:
    changes: list[tuple[str, Entry | None, Entry | None]] = []
    one, two, three = (f"169.254.0.{number}" for number in (1, 2, 3))
    table = IdentityTable({one: identity(1), two: identity(2)})
    table.subscribe(lambda *change: changes.append(change))
    table.set(one, identity(1))
    table.remove("169.254.0.99")
    assert changes == []
    table.replace_all({two: Pending("port-2", "why"), three: identity(3)})
    assert changes == [
        (one, identity(1), None),
        (two, identity(2), Pending("port-2", "why")),
        (three, None, identity(3)),
    ]
    assert len(table) == 2
    assert table.get(one) is None
    assert isinstance(table.get(three), Identity)
