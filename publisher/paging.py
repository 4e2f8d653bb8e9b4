"""Walks through Neutron's ports or networks, a page at a time. No I/O of its own, no threads.

A page begins after a marker, the last port of the page before. A deleted marker is an error in
Neutron; here an earlier port of that page replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ovs_metadata.publisher.ports import Port

PAGE = 500
"""Ports in a page."""


class MarkerGone(Exception):
    """The port whose id is the marker no longer exists."""


class PagingIgnored(Exception):
    """A page does not begin after its marker."""


def walk(read_page: Callable[[str | None], list[Port]]) -> Iterator[Port]:
    """All ports in order of id, each once.

    Args:
        read_page: returns the ports after a marker (None: from the first), in order of id, some at
            least unless there are none; raises MarkerGone.

    Raises:
        PagingIgnored: a page does not begin after its marker, so that there would be no end.
    """
    markers: list[str] = []
    last = ""
    while page := _page_after(markers, read_page):
        for port in page:
            # After an earlier marker had to do, a page repeats some ports.
            if port["id"] > last:
                last = port["id"]
                yield port
        markers = [port["id"] for port in page]


def _page_after(markers: list[str], read_page: Callable[[str | None], list[Port]]) -> list[Port]:
    """The page after the last marker that still exists, or else the first."""
    for marker in reversed(markers):
        try:
            page = read_page(marker)
        except MarkerGone:
            continue
        if page and page[0]["id"] <= marker:
            raise PagingIgnored(
                f"the page of ports after {marker} begins with {page[0]['id']}: Neutron's core "
                "plugin must support the parameters sorts, limit and marker, as ML2 does"
            )
        return page
    return read_page(None)
