"""The keys of the deployment's configuration: name, type, default, meaning, what is valid.

MidoNet's three keys, and one for each setting of the proxy under the same prefix. The latter come
from `ovs_metadata.proxy.control.settings` and are written down nowhere else. A value, never
changed.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ovs_metadata.host.option_policy import (
    HOST_NAMES_KEY,
    OPTION_KEYS,
    TENANT_OPTIONS_KEY,
    problem_of_host_names,
)
from ovs_metadata.metadata_options import HOP_LIMIT, OPTIONS, TENANT_OPTIONS, Option
from ovs_metadata.proxy.control import settings
from ovs_metadata.proxy.control.settings import Settings, split_urls
from ovs_metadata.proxy.nova.endpoint import parse_endpoint
from ovs_metadata.store.configuration import ENABLED

__all__ = [
    "ENABLED",
    "FILES",
    "MASK",
    "MAX_SECRET",
    "NOVA_METADATA_URL",
    "PREFIX",
    "SHARED_SECRET",
    "Key",
    "known_keys",
    "nearest",
    "shown",
]

PREFIX = "agent.openstack.metadata"

SHARED_SECRET = f"{PREFIX}.shared_secret"
NOVA_METADATA_URL = f"{PREFIX}.nova_metadata_url"

MAX_SECRET = 4096
"""Bytes. A longer value is no secret but a file that was given by mistake."""

MASK = "********"
"""What is shown instead of a secret."""

FILES = {
    "nova_ca": "nova_ca_file",
    "nova_client_certificate": "nova_client_certificate_file",
    "nova_client_key": "nova_client_key_file",
}
"""Settings that are the content of a file, and the keys that name the file.

Each hypervisor has its own file: a private key has no business in a store that all of them read.
"""


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `field` is the proxy's setting of the same meaning, None for what is not one."""

    name: str
    default: Any
    doc: str
    field: "dataclasses.Field[Any]"
    secret: bool = False

    @property
    def type_name(self) -> str:
        """The type of its values, for people."""
        names = {bool: "true or false", int: "integer", float: "number", str: "text"}
        return names[type(self.default)]

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed values; empty if any value of the type is."""
        return self.field.metadata["choices"] or ()

    @property
    def relative_name(self) -> str:
        """The name below the prefix of all keys."""
        return self.name.removeprefix(f"{PREFIX}.")

    @property
    def short_name(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    @property
    def in_seconds(self) -> bool:
        """Whether its values are times."""
        return self.doc.startswith(("Seconds", "Whole seconds")) and type(self.default) in {
            int,
            float,
        }

    def problem(self, value: object) -> str | None:
        """Why a value is invalid; None for a valid one. Never repeats a secret."""
        if isinstance(value, int | float) and type(self.default) is str:
            return f"must be a string: put it in quotes{self._what_it_is(value)}"
        wrong = settings.problem(self.field, value)
        if wrong:
            units = " (seconds, or with a unit: 500ms, 5s, 2 minutes)" if self.in_seconds else ""
            return f"must be {wrong}{units}"
        return self._problem_of_text(value) if isinstance(value, str) else None

    def shown(self, value: object) -> object:
        """The value as it may be shown: a secret is masked."""
        return MASK if self.secret and value else value

    def _what_it_is(self, value: object) -> str:
        return "" if self.secret else f" ({value!r} is not one)"

    def _problem_of_text(self, value: str) -> str | None:
        if self.name == SHARED_SECRET:
            return _problem_of_secret(value)
        if self.name == NOVA_METADATA_URL:
            return _problem_of_urls(value)
        if self.name == HOST_NAMES_KEY:
            return problem_of_host_names(value)
        if self.short_name in FILES.values() and value and not value.startswith("/"):
            return f"must be an absolute path, or empty; {value!r} is neither"
        return None


def known_keys() -> Mapping[str, Key]:
    """All keys by name, MidoNet's first."""
    return _KEYS


def shown(name: str, value: object) -> object:
    """The value of any key, known or not, as it may be shown: what may be a secret is masked."""
    key = _KEYS.get(name)
    if key is not None:
        return key.shown(value)
    return MASK if value and _may_be_secret(name) else value


def _may_be_secret(name: str) -> bool:
    """Whether a key that does not exist may hold a secret, that of a misspelt key for example."""
    meant = nearest(name)
    if meant is not None and _KEYS[meant].secret:
        return True
    word = name.lower()
    return any(each in word for each in ("secret", "password")) or (
        "_key" in word and not word.endswith("_file")
    )


def nearest(name: str) -> str | None:
    """The known key that resembles `name` most, if any does."""
    short_names = {
        key.short_name: key.name
        for key in _KEYS.values()
        # The names of options are common words.
        if key.short_name == key.relative_name or name.startswith(f"{PREFIX}.")
    }
    close = difflib.get_close_matches(name.rpartition(".")[2], short_names, n=1)
    return short_names[close[0]] if close else None


def _problem_of_secret(value: str) -> str | None:
    if value == MASK:
        return "must be the secret itself, not the mask that is shown in its place"
    if len(value.encode()) > MAX_SECRET:
        return f"must be no longer than {MAX_SECRET} bytes"
    if value != value.strip() or not value.isprintable():
        return "must not begin or end with white space, nor contain control characters"
    return None


def _problem_of_urls(value: str) -> str | None:
    urls = split_urls(value)
    if not urls:
        return "must be one URL, or several separated by commas; it is empty"
    for url in urls:
        try:
            parse_endpoint(url)
        except ValueError as error:
            return f"must be URLs separated by commas: {error}"
    return None


def _own(
    name: str,
    default: Any,
    doc: str,
    *,
    secret: bool = False,
    choices: tuple[str, ...] | None = None,
    most: int | None = None,
) -> Key:
    """A key that is no setting of the proxy, described like one; a number is from 0 to `most`."""
    least = None if most is None else 0
    metadata = {
        "doc": doc,
        "minimum": least,
        "maximum": most,
        "choices": choices,
        "secret": secret,
    }
    field: Any = dataclasses.field(default=default, metadata=metadata)
    field.type = type(default)
    return Key(name, default, doc, field, secret)


def _of_setting(field: "dataclasses.Field[Any]") -> Key:
    if field.name in FILES:
        return _own(
            f"{PREFIX}.{FILES[field.name]}",
            "",
            f"File on each hypervisor, read by its agent: {field.metadata['doc']}",
        )
    return Key(f"{PREFIX}.{field.name}", field.default, field.metadata["doc"], field)


def _of_option(option: Option) -> Key:
    name = OPTION_KEYS[option.name]
    if option is HOP_LIMIT:
        return _own(name, option.default, option.doc, most=64)
    choices = tuple(str(value) for value in option.values)
    return _own(name, option.default, option.doc, choices=choices)


def _option_keys() -> list[Key]:
    return [
        *map(_of_option, OPTIONS),
        _own(
            HOST_NAMES_KEY,
            "",
            "Names of the metadata service that hosts = literal accepts besides its addresses, "
            "separated by commas.",
        ),
        _own(
            TENANT_OPTIONS_KEY,
            "tighten",
            "What tags of ports and networks may do: ignore, nothing; tighten, the strictest of "
            "tags, project and deployment counts; any, the nearest counts.",
            choices=TENANT_OPTIONS,
        ),
    ]


def _keys() -> dict[str, Key]:
    urls = next(field for field in settings.schema() if field.name == "nova_metadata_urls")
    keys = [
        _own(
            NOVA_METADATA_URL,
            ",".join(Settings().nova_metadata_urls),
            f"{urls.metadata['doc']} Several are separated by commas.",
        ),
        _own(
            SHARED_SECRET,
            "",
            "Nova's [neutron] metadata_proxy_shared_secret. The agent signs instance IDs with it.",
            secret=True,
        ),
        _own(
            ENABLED,
            default=False,
            doc="Whether hypervisors serve metadata. When it becomes false, each of them removes "
            "its flows, metadata port, listeners and network namespace.",
        ),
    ]
    keys += [_of_setting(field) for field in settings.schema() if field is not urls]
    keys += _option_keys()
    return {key.name: key for key in keys}


_KEYS = _keys()
