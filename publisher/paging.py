"""Walks through all of Neutron's ports, a page at a time. No I/O of its own, no threads.

Neutron's pages begin after a marker, the last port of the page before; a marker that has been
deleted since is an error there, and a port like any other here.
"""

from collections.abc import Callable, Iterator

from ovs_metadata.publisher.ports import Port

PAGE = 500
"""Ports in a page."""


class MarkerGone(Exception):
    """There is no port any more of the id that was to be the marker."""


class PagingIgnored(Exception):
    """Whoever is asked for pages does not begin them where it is told to."""


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
            # Not those that were told already, when an earlier marker had to do.
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
                "plugin must heed the parameters sorts, limit and marker, as ML2 does"
            )
        return page
    return read_page(None)
