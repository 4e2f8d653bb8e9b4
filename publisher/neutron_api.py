"""Neutron's ports and networks through its API, by openstacksdk: a `Source` for the comparison.

One connection, used by the thread that compares. A request is tried again when Neutron is
unreachable or says 503, a few times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import openstack
from keystoneauth1 import exceptions as keystone
from openstack import exceptions as sdk

from ovs_metadata.publisher import networks
from ovs_metadata.publisher.errors import NeutronUnavailable
from ovs_metadata.publisher.networks import Network
from ovs_metadata.publisher.paging import PAGE, MarkerGone, PagingIgnored, walk
from ovs_metadata.publisher.ports import FIELDS, Port, is_compute_port, is_subport, of_trunk
from ovs_metadata.untrusted import UnreadableJson, fits, parse_json

HOST = "binding:host_id"
"""Shown to administrators only, by Neutron's default policy."""

RETRIES = 3

MAX_ANSWER = 256 * 1024 * 1024
"""Bytes of an answer; a page has a thousandth of it, unless Neutron knows no pages."""

_PORT = {"id": str, "device_owner": str | None}
_NETWORK = {"id": str, "revision_number": int | None, "tags": [str]}
_TRUNK = {"id": str, "port_id": str, "sub_ports": [{"port_id": str}]}

T = TypeVar("T")


class ApiPorts:
    """All ports and networks Neutron's API shows to these credentials.

    Args:
        cloud: a cloud of clouds.yaml; None is the one that OS_CLOUD or the other OS_* name.
        endpoint: Neutron's URL, to be used without any authentication, in a lab.

    Raises:
        NeutronUnavailable: the credentials are missing or refused, or Neutron does not answer.
    """

    def __init__(self, cloud: str | None = None, endpoint: str | None = None) -> None:
        self._sees_everything = True
        self._parents: Mapping[str, str] | None = None
        self._network: Any = reported(lambda: connect(cloud, endpoint).network)

    @property
    def sees_everything(self) -> bool:
        """Whether Neutron showed every compute port so far as it shows it to an administrator.

        To other users it shows only their project's ports: they cannot decide what is missing.
        """
        return self._sees_everything

    def ports(self) -> Iterator[Port]:
        """All ports, in order of id; raises NeutronUnavailable."""
        try:
            for port in walk(self._page):
                if is_compute_port(port) and HOST not in port:
                    self._sees_everything = False
                yield port
        except PagingIgnored as error:
            raise NeutronUnavailable(f"Neutron: {error}") from error

    def lookup(self, port_ids: Collection[str]) -> Mapping[str, Port]:
        """Those of these ports that exist, by id; raises NeutronUnavailable."""
        found = self._get({"id": list(port_ids)})
        return {port["id"]: port for port in self._of_trunks(found)}

    def networks(self) -> Iterator[Network]:
        """All networks, in order of id; raises NeutronUnavailable."""
        try:
            yield from walk(lambda marker: self._get_networks(_page_after(marker)))
        except PagingIgnored as error:
            raise NeutronUnavailable(f"Neutron: {error}") from error

    def lookup_networks(self, network_ids: Collection[str]) -> Mapping[str, Network]:
        """Those of these networks that exist, by id; raises NeutronUnavailable."""
        return {each["id"]: each for each in self._get_networks({"id": list(network_ids)})}

    def _get_networks(self, query: dict[str, Any]) -> list[Network]:
        return self._get(query, "networks", networks.FIELDS, _NETWORK)

    def _of_trunks(self, ports: list[Port]) -> list[Port]:
        """These ports, sub-ports with their trunk's parent; trunks are read once, when needed."""
        if not any(map(is_subport, ports)):
            return ports
        if self._parents is None:
            self._parents = self._read_parents()
        return [of_trunk(port, self._parents) for port in ports]

    def _read_parents(self) -> Mapping[str, str]:
        """The parent port of every sub-port. Neutron cannot be asked for the trunks of some."""
        found: dict[str, str] = {}
        for trunk in walk(self._trunk_page):
            found |= dict.fromkeys(
                (each["port_id"] for each in trunk["sub_ports"]), trunk["port_id"]
            )
        return found

    def _page(self, marker: str | None) -> list[Port]:
        return self._of_trunks(self._get(_page_after(marker)))

    def _trunk_page(self, marker: str | None) -> list[Mapping[str, Any]]:
        return self._get(_page_after(marker), "trunks", ("id", "port_id", "sub_ports"), _TRUNK)

    def _get(
        self,
        query: dict[str, Any],
        kind: str = "ports",
        fields: Sequence[str] = (*FIELDS, HOST),
        shape: object = _PORT,
    ) -> list[Port]:
        answer = reported(
            lambda: self._network.get(
                f"/{kind}",
                params={**query, "fields": list(fields)},
                connect_retries=RETRIES,
                status_code_retries=RETRIES,
                retriable_status_codes=[503],
            )
        )
        if answer.status_code == 404 and "marker" in query:
            raise MarkerGone
        reported(lambda: sdk.raise_from_response(answer))
        found, _ = documents(answer, kind, shape)
        return found


def _page_after(marker: str | None) -> dict[str, Any]:
    query: dict[str, Any] = {"sort_key": "id", "sort_dir": "asc", "limit": PAGE}
    return query if marker is None else query | {"marker": marker}


def connect(cloud: str | None, endpoint: str | None) -> Any:
    """A connection to a cloud of clouds.yaml (None: as OS_* say), or to Neutron's bare URL."""
    if endpoint is None:
        return openstack.connect(cloud=cloud)
    return openstack.connect(
        # Neither a clouds.yaml nor OS_*: no credentials are wanted.
        load_yaml_config=False,
        load_envvars=False,
        auth_type="none",
        # Neutron tells its versions, and thereby where version 2.0 is, at its root only.
        network_endpoint_override=endpoint.rstrip("/").removesuffix("/v2.0"),
    )


def document(answer: Any, shape: object) -> dict[str, Any]:
    """The document of an answer, which has that shape (see `untrusted.fits`).

    Raises:
        NeutronUnavailable: it is none that Neutron would answer with.
    """
    try:
        found = parse_json(answer.content, MAX_ANSWER)
    except UnreadableJson as error:
        raise NeutronUnavailable(f"the server at {answer.url} is not Neutron: {error}") from error
    if not isinstance(found, dict) or not fits(found, shape):
        raise NeutronUnavailable(
            f"the server at {answer.url} is not Neutron: its documents have another shape"
        )
    return found


def documents(answer: Any, kind: str, shape: object) -> tuple[list[Any], bool]:
    """The documents of a list, each of that shape, and whether there are more on another page.

    Raises:
        NeutronUnavailable: it is no such list.
    """
    links = f"{kind}_links"
    found = document(answer, {kind: [shape], links: list | None})
    more = any(
        fits(link, {"rel": str}) and link["rel"] == "next" for link in found.get(links) or ()
    )
    return found[kind], more


def reported(action: Callable[[], T]) -> T:
    """The result of an action of the libraries; raises what they raise as NeutronUnavailable."""
    try:
        return action()
    except (sdk.SDKException, keystone.ClientException) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise NeutronUnavailable(f"Neutron: {lines[0]}") from error
    except (RecursionError, TypeError, ValueError, LookupError, AttributeError) as error:
        # The libraries take it for granted that a document is as Neutron's are.
        why = f"the server is not Neutron: {type(error).__name__}"
        raise NeutronUnavailable(f"Neutron: {why}") from error
