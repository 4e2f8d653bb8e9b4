"""Refused messages in words; the library knows the names, too."""

import pytest
from os_ken.ofproto import ofproto_v1_3

from ovs_metadata.flows import wire
from ovs_metadata.flows.refusals import TABLE_FULL, in_words

LETTERS = {0: "HFC", 1: "BRC", 2: "BAC", 3: "BIC", 4: "BMC", 5: "FMFC", 12: "MMFC"}


def test_a_full_table_is_named_with_its_number_and_meaning() -> None:
    message = wire.HEADER.pack(wire.VERSION, wire.FLOW_MOD, 56, 1) + bytes(16) + b"\xc8" + bytes(31)
    assert in_words(*TABLE_FULL, message) == (
        "OFPFMFC_TABLE_FULL for a FLOW_MOD of table 200: its table has as many flows as it may have"
    )


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (error, code, name)
        for error, letters in LETTERS.items()
        for name, code in vars(ofproto_v1_3).items()
        if name.startswith(f"OFP{letters}_")
    ],
)
def test_names_are_the_specifications(error: int, code: int, name: str) -> None:
    assert in_words(error, code).split(":")[0] == name


@pytest.mark.parametrize("message", [b"", b"\x04"])
def test_a_message_that_is_not_sent_back_is_left_out(message: bytes) -> None:
    assert in_words(1, 5, message) == "OFPBRC_EPERM"


def test_an_unknown_error_has_its_numbers() -> None:
    assert in_words(5, 99, b"\x04\x0e") == "error type 5, code 99 for a FLOW_MOD"
    assert in_words(77, 1, b"\x04\xff") == "error type 77, code 1 for a message of type 255"
