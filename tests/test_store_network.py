"""The document of a network's metadata options."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ovs_metadata.store.network import NetworkOptions
from ovs_metadata.store.record import MAX_TAGS

NETWORK = "11111111-0000-4000-8000-000000000001"
OPTIONS = NetworkOptions(NETWORK, "p", ("metadata:hop-limit=1", "metadata:hosts=literal"), 7)


def test_a_network_survives_its_document() -> None:
    assert NetworkOptions.from_json(NETWORK, OPTIONS.to_json()) == OPTIONS


def test_tags_have_one_order() -> None:
    shuffled = replace(OPTIONS, tags=(*reversed(OPTIONS.tags), OPTIONS.tags[0]))
    assert shuffled == OPTIONS


def test_a_document_of_a_later_release_may_have_more() -> None:
    more = {**json.loads(OPTIONS.to_json()), "shared": True}
    assert NetworkOptions.from_json(NETWORK, json.dumps(more).encode()) == OPTIONS


@pytest.mark.parametrize(
    "wrong",
    [
        {"network_id": "another"},
        {"tags": "metadata:x"},
        {"tags": ["blue"]},
        {"tags": [f"metadata:{number}" for number in range(MAX_TAGS + 1)]},
        {"revision_number": -1},
        {"revision_number": None},
        {"project_id": None},
    ],
    ids=str,
)
def test_a_wrong_document_is_refused(wrong: dict[str, object]) -> None:
    document = {**json.loads(OPTIONS.to_json()), **wrong}
    with pytest.raises(ValueError, match=r"^(it is|tags|revision_number)"):
        NetworkOptions.from_json(NETWORK, json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"{}"])
def test_what_is_no_document_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any of them will do
        NetworkOptions.from_json(NETWORK, data)


def test_networks_differ_by_what_their_tags_do() -> None:
    none = replace(OPTIONS, tags=())
    assert OPTIONS.says_as(replace(OPTIONS, revision_number=8))
    assert none.says_as(None)
    assert none.says_as(replace(none, project_id="q"))
    assert not OPTIONS.says_as(None)
    assert not OPTIONS.says_as(none)
    assert not none.says_as(OPTIONS)
    assert not OPTIONS.says_as(replace(OPTIONS, project_id="q"))
