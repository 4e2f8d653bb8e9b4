"""Settings and endpoints."""

import json
from typing import Any

import pytest

from ovs_metadata.proxy.control.settings import Settings, split_urls
from ovs_metadata.proxy.nova.endpoint import parse_endpoint


def test_settings_pass_through_json_unchanged() -> None:
    settings = Settings(nova_metadata_urls=("http://a:1", "https://b"), retry_after=7)
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    assert Settings.from_json({}) == Settings()


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"nova_metadata_urls": []}, "at least one URL"),
        ({"nova_metadata_urls": "http://a"}, "list of URLs"),
        ({"nova_metadata_urls": [1]}, "list of URLs"),
        ({"nova_metadata_urls": ["nova:8775"]}, "must begin with http:// or https://"),
        ({"response_timeout": 0}, "response_timeout must be a number above 0"),
        ({"response_timeout": "60"}, "response_timeout must be a number above 0"),
        ({"response_timeout": float("nan")}, "response_timeout must be a number above 0"),
        ({"response_timeout": float("inf")}, "response_timeout must be a number above 0"),
        ({"max_body": -1}, "max_body must be an integer above 0"),
        ({"max_body": 1.5}, "max_body must be an integer above 0"),
        ({"max_body": True}, "max_body must be an integer above 0"),
        ({"max_boddy": 1}, "unknown setting 'max_boddy'"),
        ({"endpoints": []}, "unknown setting 'endpoints'"),
    ],
)
def test_a_bad_setting_is_named(data: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Settings.from_json(data)


@pytest.mark.parametrize(
    ("url", "host", "port", "host_line"),
    [
        ("http://nova.example:8775", "nova.example", 8775, b"Host: nova.example:8775\r\n"),
        ("http://nova.example/", "nova.example", 80, b"Host: nova.example\r\n"),
        ("https://10.0.0.1", "10.0.0.1", 443, b"Host: 10.0.0.1\r\n"),
        ("https://[fd00::1]:8775", "fd00::1", 8775, b"Host: [fd00::1]:8775\r\n"),
    ],
)
def test_an_endpoint_is_read_from_its_url(url: str, host: str, port: int, host_line: bytes) -> None:
    endpoint = parse_endpoint(url)
    assert (endpoint.host, endpoint.port, endpoint.host_line) == (host, port, host_line)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nova",
        "ftp://nova",
        "http://",
        "http://:80",
        "http://nova:port",
        "http://nova:99999",
        "http://nova:0",
        "http://nova/path",
        "http://nova/?q",
        "http://nova/#f",
        "http://user:secret@nova",
        "http://no va",
        "http://nova\r\nX: y",
        "http://a..b",
        "http://" + "a" * 64,
        "http://[fd00::1",
        "http://caf\xe9",
    ],
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="Nova metadata URL") as caught:
        parse_endpoint(url)
    assert "secret" not in str(caught.value)


def test_urls_are_split_at_commas() -> None:
    assert split_urls(" http://a , http://b,") == ("http://a", "http://b")
