"""Where the southbound database is, by what the ini file and the local OVSDB say."""

from pathlib import Path
from typing import Any

import pytest

from ovs_metadata.host.config import OvnOptions
from ovs_metadata.host.southbound.location import Location, TlsFiles, location_of
from ovs_metadata.store.errors import StoreError

IDS = {"ovn-remote": "tcp:10.0.0.1:6642", "system-id": "hv1"}
SSL = {"private_key": "/ovs/key", "certificate": "/ovs/cert", "ca_cert": "/ovs/ca"}
NOTHING = OvnOptions()


def test_ovsdb_says_all_that_ovn_controller_needs() -> None:
    assert location_of(NOTHING, IDS, {}) == Location("tcp:10.0.0.1:6642", "hv1")


def test_tls_files_are_those_of_the_table_ssl() -> None:
    ids = {**IDS, "ovn-remote": "ssl:[2001:db8::1]:6642,ssl:[2001:db8::2]:6642"}
    location = location_of(NOTHING, ids, SSL)
    assert location.tls == TlsFiles("/ovs/key", "/ovs/cert", "/ovs/ca")
    assert location.remote == ids["ovn-remote"]


def test_what_the_file_gives_wins() -> None:
    given = OvnOptions("ssl:10.0.0.9:6642", Path("/our/ca"), None, Path("/our/key"))
    location = location_of(given, IDS, SSL)
    assert location == Location(
        "ssl:10.0.0.9:6642", "hv1", None, TlsFiles("/our/key", "/ovs/cert", "/our/ca")
    )


def test_a_remote_of_the_file_needs_none_in_ovsdb() -> None:
    given = OvnOptions("tcp:10.0.0.9:6642")
    assert location_of(given, {"system-id": "hv1"}, {}).remote == "tcp:10.0.0.9:6642"


@pytest.mark.parametrize(
    ("text", "interval"), [("60000", 60000), ("0", 0), ("", None), ("soon", None), ("-1", None)]
)
def test_probes_are_as_rare_as_those_of_ovn_controller(text: str, interval: int | None) -> None:
    ids = {**IDS, "ovn-remote-probe-interval": text}
    assert location_of(NOTHING, ids, {}).probe_interval == interval


@pytest.mark.parametrize(
    ("ids", "tls", "reason"),
    [
        ({"ovn-remote": ""}, {}, "external_ids:ovn-remote of Open_vSwitch is not set"),
        ({"ovn-remote": "10.0.0.1"}, {}, "unknown form"),
        ({"ovn-remote": "ptcp:6642"}, {}, "unknown form"),
        ({"ovn-remote": "tcp:10.0.0.1:6642,http:x"}, {}, "unknown form"),
        ({"system-id": ""}, {}, "external_ids:system-id of Open_vSwitch is not set"),
        ({"ovn-remote": "ssl:10.0.0.1:6642"}, {}, "key_file, cert_file, ca_file"),
        ({"ovn-remote": "ssl:10.0.0.1:6642"}, {**SSL, "ca_cert": ""}, "set [ovn] ca_file"),
    ],
)
def test_what_is_missing_is_named(ids: dict[str, str], tls: dict[str, Any], reason: str) -> None:
    with pytest.raises(StoreError) as failure:
        location_of(NOTHING, {**IDS, **ids}, tls)
    assert reason in str(failure.value)
