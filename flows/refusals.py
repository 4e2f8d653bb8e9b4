"""What a switch says when it refuses a message, in words. Pure.

Names are those of the OpenFlow 1.3.5 specification, section 7.4.4, for the messages that we send.
"""

from ovs_metadata.flows import wire
from ovs_metadata.flows.meter_wire import METER_MOD

_NAMES = {
    0: ("HFC", "INCOMPATIBLE EPERM"),
    1: (
        "BRC",
        "BAD_VERSION BAD_TYPE BAD_MULTIPART BAD_EXPERIMENTER BAD_EXP_TYPE EPERM BAD_LEN "
        "BUFFER_EMPTY BUFFER_UNKNOWN BAD_TABLE_ID IS_SLAVE BAD_PORT BAD_PACKET "
        "MULTIPART_BUFFER_OVERFLOW",
    ),
    2: (
        "BAC",
        "BAD_TYPE BAD_LEN BAD_EXPERIMENTER BAD_EXP_TYPE BAD_OUT_PORT BAD_ARGUMENT EPERM TOO_MANY "
        "BAD_QUEUE BAD_OUT_GROUP MATCH_INCONSISTENT UNSUPPORTED_ORDER BAD_TAG BAD_SET_TYPE "
        "BAD_SET_LEN BAD_SET_ARGUMENT",
    ),
    3: (
        "BIC",
        "UNKNOWN_INST UNSUP_INST BAD_TABLE_ID UNSUP_METADATA UNSUP_METADATA_MASK BAD_EXPERIMENTER "
        "BAD_EXP_TYPE BAD_LEN EPERM",
    ),
    4: (
        "BMC",
        "BAD_TYPE BAD_LEN BAD_TAG BAD_DL_ADDR_MASK BAD_NW_ADDR_MASK BAD_WILDCARDS BAD_FIELD "
        "BAD_VALUE BAD_MASK BAD_PREREQ DUP_FIELD EPERM",
    ),
    5: ("FMFC", "UNKNOWN TABLE_FULL BAD_TABLE_ID OVERLAP EPERM BAD_TIMEOUT BAD_COMMAND BAD_FLAGS"),
    12: (
        "MMFC",
        "UNKNOWN METER_EXISTS INVALID_METER UNKNOWN_METER BAD_COMMAND BAD_FLAGS BAD_RATE BAD_BURST "
        "BAD_BAND BAD_BAND_VALUE OUT_OF_METERS OUT_OF_BANDS",
    ),
}
"""Per type of error the letters that its codes' names begin with, and the names from code 0 on."""

TABLE_FULL = (5, 1)

_MEANINGS = {
    TABLE_FULL: "its table has as many flows as it may have",
    (12, 10): "the switch has as many meters as it may have",
}
"""Of those that an operator can cure."""

_MESSAGES = {
    wire.HELLO: "HELLO",
    wire.PACKET_OUT: "PACKET_OUT",
    wire.FLOW_MOD: "FLOW_MOD",
    wire.MULTIPART_REQUEST: "MULTIPART_REQUEST",
    wire.BARRIER_REQUEST: "BARRIER_REQUEST",
    wire.SET_ASYNC: "SET_ASYNC",
    METER_MOD: "METER_MOD",
}

_TABLE_OF_FLOW_MOD = 24
"""Where the table is in a FLOW_MOD: after the header, cookie and mask."""


def in_words(error: int, code: int, message: bytes = b"") -> str:
    """The error, of what kind of message, and what it means: one line.

    Args:
        error: its type.
        code: what exactly, among the errors of that type.
        message: the beginning of the refused message, as the switch sends it back.
    """
    words = _name(error, code)
    if len(message) > 1:
        words += f" for a {_MESSAGES.get(message[1], f'message of type {message[1]}')}"
        if message[1] == wire.FLOW_MOD and len(message) > _TABLE_OF_FLOW_MOD:
            words += f" of table {message[_TABLE_OF_FLOW_MOD]}"
    meaning = _MEANINGS.get((error, code))
    return f"{words}: {meaning}" if meaning else words


def _name(error: int, code: int) -> str:
    letters, names = _NAMES.get(error, ("", ""))
    known = names.split()
    if code < len(known):
        return f"OFP{letters}_{known[code]}"
    return f"error type {error}, code {code}"
