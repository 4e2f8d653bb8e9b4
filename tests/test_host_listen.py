"""Where the admin listener may be: nowhere that a guest, or another machine, can reach."""

from pathlib import Path

import pytest

from ovs_metadata.host.listen import ListenAddress, UnixSocket, parse_listen


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:9775", "127.0.0.1", 9775),
        (" 127.1.2.3:1 ", "127.1.2.3", 1),
        ("[::1]:65535", "::1", 65535),
        ("[0:0:0:0:0:0:0:1]:80", "::1", 80),
    ],
)
def test_a_loopback_address(text: str, host: str, port: int) -> None:
    assert parse_listen(text) == ListenAddress(host, port)


@pytest.mark.parametrize("text", ["127.0.0.1:9775", "[::1]:9775", "unix:/run/ovs-metadata/admin"])
def test_it_is_shown_as_it_was_written(text: str) -> None:
    assert str(parse_listen(text)) == text


def test_a_unix_socket() -> None:
    assert parse_listen("unix:/run/admin.sock") == UnixSocket(Path("/run/admin.sock"))


@pytest.mark.parametrize("text", ["", "  "])
def test_nowhere(text: str) -> None:
    assert parse_listen(text) is None


@pytest.mark.parametrize(
    "text", ["0.0.0.0:9775", "[::]:9775", "169.254.169.254:80", "10.0.0.1:80", "[fe80::1]:80"]
)
def test_what_others_could_reach_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"others than this host could reach .* set tls_cert_file"):
        parse_listen(text)
    place = parse_listen(text, guarded=True)
    assert str(place) == text


@pytest.mark.parametrize(
    "text",
    [
        *("9775", ":9775", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536"),
        *("127.0.0.1:-1", "127.0.0.1:9_7", "127.0.0.1:\u0663", "127.0.0.1: 80", "localhost:9775"),
        *("::1:9775", "[127.0.0.1]:9775", "[::1]9775", "http://127.0.0.1:9775", "[::1%lo]:1"),
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as 127\.0\.0\.1:9775"):
        parse_listen(text)


@pytest.mark.parametrize("path", ["", "admin.sock", "/" + "x" * 107, "/a\0b"])
def test_what_is_no_path_of_a_socket_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="must be absolute"):
        parse_listen(f"unix:{path}")
