"""Store URLs, and opening by one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.store import open_store
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.url import DirectoryLocation, ZooKeeperLocation, parse_store_url


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("directory:/var/lib/store", DirectoryLocation(Path("/var/lib/store"))),
        ("directory:///var/lib/store", DirectoryLocation(Path("/var/lib/store"))),
        ("directory:/with a blank/%41", DirectoryLocation(Path("/with a blank/%41"))),
        ("zookeeper://h1:2181", ZooKeeperLocation("h1:2181")),
        ("zookeeper://h1", ZooKeeperLocation("h1:2181")),
        ("zookeeper://h1:2181/", ZooKeeperLocation("h1:2181")),
        ("zookeeper://h1:1,h2/some/where", ZooKeeperLocation("h1:1,h2:2181", "/some/where")),
        ("zookeeper://10.0.0.1,[::1]:2/c/", ZooKeeperLocation("10.0.0.1:2181,[::1]:2", "/c")),
        ("zookeeper://[2001:db8::1]", ZooKeeperLocation("[2001:db8::1]:2181")),
    ],
)
def test_good_urls(url: str, location: DirectoryLocation | ZooKeeperLocation) -> None:
    assert parse_store_url(url) == location


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/var/lib/store",
        "file:///var/lib/store",
        "directory:",
        "directory:store",
        "directory://host/store",
        "Directory:/store",
        "zookeeper:h1:2181",
        "zookeeper://",
        "zookeeper:///chroot",
        "zookeeper://h1:",
        "zookeeper://h1:0",
        "zookeeper://h1:65536",
        "zookeeper://h1:x",
        "zookeeper://h1,,h2",
        "zookeeper://h1, h2",
        "zookeeper://user:pw@h1",
        "zookeeper://::1:2181",
        "zookeeper://h1//a",
        "zookeeper://h1/../a",
        "zookeeper://h1/a?b=c",
        "zookeeper://h1/a/.",
        "zookeeper://h1\n",
    ],
)
def test_a_bad_url_is_answered_with_the_good_forms(url: str) -> None:
    with pytest.raises(StoreError, match=r"directory:/PATH or zookeeper://HOST:PORT") as refused:
        parse_store_url(url)
    assert "\n" not in str(refused.value)


@given(st.text() | st.text().map("zookeeper://{}".format) | st.text().map("directory:{}".format))
def test_any_text_is_a_location_or_one_line(text: str) -> None:
    try:
        expected = repr(parse_store_url(text))
    except StoreError as refused:
        expected = str(refused)
    assert expected.startswith(("DirectoryLocation", "ZooKeeperLocation", "bad store URL"))
    assert expected.isprintable()


def test_a_directory_is_opened_without_kazoo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "kazoo"]:
        monkeypatch.delitem(sys.modules, name)
    open_store(f"directory:{tmp_path}").close()
    assert "kazoo" not in sys.modules


def test_a_bad_url_is_not_opened() -> None:
    with pytest.raises(StoreError, match="bad store URL"):
        open_store("redis://h1")
