"""Metadata options: what guards the metadata service of a port, and who decides it.

Values and pure functions. An option has a few values, in the order of their strictness. Several
levels may set it: the deployment, a project, a network, a port. `resolve` decides, option by
option, and records which level decided. docs/metadata-options.md says what each option stops.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

Value: TypeAlias = int | str

TAG_PREFIX = "metadata:"
"""How a Neutron tag with an option begins: `metadata:KEY=VALUE`."""

DEPLOYMENT = "deployment"
"""The level that has a value for every option."""

MAX_NAME = 253
"""Characters of a host's name in the DNS."""

_MAX_UNKNOWN = 16
_MAX_SHOWN = 80
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class Option:
    """One option."""

    name: str
    values: tuple[Value, ...]
    """All its values, the loosest first."""
    default: Value
    doc: str

    def problem(self, value: object) -> str | None:
        """Return what a value should be and is not, or None."""
        # In Python True and 1.0 equal 1.
        if type(value) in {int, str} and value in self.values:
            return None
        numbers = [each for each in self.values if isinstance(each, int)]
        if numbers:
            return f"an integer from {min(numbers)} to {max(numbers)}, not {_shown(value)}"
        return f"{' or '.join(map(str, self.values))}, not {_shown(value)}"

    def parse(self, text: str) -> Value:
        """Parse a value as a tag has it.

        Raises:
            ValueError: it is none of the option's.
        """
        for value in self.values:
            if str(value) == text:
                return value
        raise ValueError(f"{self.name} must be {self.problem(text)}")

    def strictness(self, value: Value) -> int:
        """Return a number that is higher for a stricter value."""
        return self.values.index(value)


HOP_LIMIT = Option(
    "hop_limit",
    (0, *range(64, 0, -1)),
    0,
    "Hops that a response may take behind the port: 1 reaches the instance and no routed "
    "container in it; 0 leaves the hop limit as it is.",
)
TOKENS = Option(
    "tokens",
    ("off", "optional", "required"),
    "optional",
    "Session tokens (PUT /latest/api/token): off, no such API; optional, a wrong token is "
    "refused; required, a request without a token is refused, too.",
)
ENDPOINT = Option(
    "endpoint",
    ("enabled", "disabled"),
    "enabled",
    "Whether the port has a metadata service; disabled: every request gets 403.",
)
PROXIED = Option(
    "proxied",
    ("allow", "refuse"),
    "allow",
    "Requests with a header that HTTP proxies add (X-Forwarded-For, X-Forwarded-Host, Forwarded, "
    "Via, X-Real-IP); refuse: they get 403.",
)
HOSTS = Option(
    "hosts",
    ("any", "literal"),
    "any",
    "The Host of a request; literal: only the service's addresses, and host_names, so that no web "
    "page can read metadata under its own name (DNS rebinding).",
)

OPTIONS = (HOP_LIMIT, TOKENS, ENDPOINT, PROXIED, HOSTS)
"""All options that a level may set."""

BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}

TenantOptions: TypeAlias = Literal["ignore", "tighten", "any"]

TENANT_OPTIONS: tuple[TenantOptions, ...] = ("ignore", "tighten", "any")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataOptions:
    """A value for each option.

    Raises:
        ValueError: a value is none of its option's.
    """

    hop_limit: int = 0
    tokens: str = "optional"
    endpoint: str = "enabled"
    proxied: str = "allow"
    hosts: str = "any"

    def __post_init__(self) -> None:
        """Check every value."""
        for option in OPTIONS:
            wrong = option.problem(getattr(self, option.name))
            if wrong:
                raise ValueError(f"option {option.name} must be {wrong}")

    def by_name(self) -> dict[str, Value]:
        """Return the values by the names of their options."""
        return {option.name: getattr(self, option.name) for option in OPTIONS}

    def is_stricter_than(self, other: "MetadataOptions") -> bool:
        """Whether any option is stricter than in `other`."""
        return any(
            option.strictness(getattr(self, option.name))
            > option.strictness(getattr(other, option.name))
            for option in OPTIONS
        )


@dataclass(frozen=True, slots=True)
class Level:
    """The options that one level sets: few, or none."""

    who: str
    """For people: "network 6f1a…, by its tag"."""
    values: tuple[tuple[str, Value], ...] = ()
    unknown: tuple[str, ...] = ()
    """Tags that look like options and are none."""
    by_tenant: bool = True
    """Whether tenants set it; otherwise the deployment does, for some of its ports."""

    def get(self, name: str) -> Value | None:
        """Return its value of an option; None if it does not set the option."""
        return next((value for key, value in self.values if key == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionPolicy:
    """What the deployment decides: its own values, and how far tenants may change them."""

    options: MetadataOptions = MetadataOptions()
    tenant_options: TenantOptions = "tighten"
    host_names: tuple[str, ...] = ()
    """Names that `hosts = literal` accepts besides the addresses, in lower case."""


DEFAULT_POLICY = OptionPolicy()


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveOptions:
    """The options of one port, and who decided each.

    Raises:
        ValueError: `decided` names an unknown option.
    """

    options: MetadataOptions = MetadataOptions()
    host_names: tuple[str, ...] = ()
    decided: tuple[tuple[str, str], ...] = ()
    """Option → level, for options that another level than the deployment decided."""
    unknown: tuple[str, ...] = ()
    """Tags of the port and of its network that look like options and are none."""
    guards: bool = field(init=False, repr=False, compare=False)
    """Whether every request has to be looked at."""

    def __post_init__(self) -> None:
        """Decide once what each request would ask."""
        for name, _ in self.decided:
            if name not in BY_NAME:
                raise ValueError(f"there is no option {_shown(name)}")
        options = self.options
        strict = ("required", "disabled", "refuse", "literal")
        chosen = (options.tokens, options.endpoint, options.proxied, options.hosts)
        object.__setattr__(self, "guards", any(value in strict for value in chosen))

    def decided_by(self, name: str) -> str:
        """Return the level that decided an option."""
        return dict(self.decided).get(name, DEPLOYMENT)

    def shown(self) -> dict[str, Any]:
        """Return it for people, as a JSON object: every value, and what decided it."""
        values = self.options.by_name()
        return {
            "options": {
                name: {"value": value, "decided_by": self.decided_by(name)}
                for name, value in values.items()
            },
            "host_names": list(self.host_names),
            "unknown_tags": list(self.unknown),
        }

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object. Whatever is as by default is left out."""
        data: dict[str, Any] = {
            name: value
            for name, value in self.options.by_name().items()
            if value != BY_NAME[name].default
        }
        if self.host_names:
            data["host_names"] = list(self.host_names)
        if self.decided:
            data["decided"] = dict(self.decided)
        if self.unknown:
            data["unknown"] = list(self.unknown)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "EffectiveOptions":
        """Parse it from a JSON object.

        Raises:
            ValueError: an unknown name, or an invalid value.
        """
        values = dict(data)
        host_names = _texts(values.pop("host_names", []), "host_names")
        unknown = _texts(values.pop("unknown", []), "unknown")
        decided = values.pop("decided", {})
        if not isinstance(decided, dict) or not all(
            isinstance(level, str) for level in decided.values()
        ):
            raise ValueError("decided must be a JSON object of texts")
        known = {each.name for each in fields(MetadataOptions)}
        for name in values:
            if name not in known:
                raise ValueError(f"there is no option {_shown(name)}")
        return cls(
            options=MetadataOptions(**values),
            host_names=host_names,
            decided=tuple(sorted(decided.items())),
            unknown=unknown,
        )


DEFAULT_OPTIONS = EffectiveOptions()
"""Those of a port if no level sets any."""


def level_of_tags(who: str, tags: Iterable[str]) -> Level:
    """Return the level that the tags of a network or port make.

    Of two tags for one option the stricter counts. Tags of other programs are ignored.
    """
    chosen: dict[str, Value] = {}
    unknown: list[str] = []
    for tag in sorted(tags):
        if not tag.startswith(TAG_PREFIX):
            continue
        key, equals, text = tag.removeprefix(TAG_PREFIX).partition("=")
        option = BY_NAME.get(key.replace("-", "_"))
        try:
            if option is None or not equals:
                raise ValueError("no such option")  # noqa: TRY301
            value = option.parse(text)
        except ValueError:
            unknown.append(tag)
            continue
        before = chosen.get(option.name)
        if before is None or option.strictness(value) > option.strictness(before):
            chosen[option.name] = value
    shown = tuple(_shown(tag)[1:-1] for tag in unknown[:_MAX_UNKNOWN])
    return Level(who, tuple(sorted(chosen.items())), shown)


def resolve(policy: OptionPolicy, levels: Sequence[Level] = ()) -> EffectiveOptions:
    """Decide the options of a port.

    With `tighten` the strictest level wins, option by option, and the farther one if two are
    equally strict; with `any` the nearest that sets the option; with `ignore` the strictest of the
    levels that no tenant sets.

    Args:
        policy: the deployment's.
        levels: the others, the farthest first: project, network, then port.
    """
    chosen: dict[str, Any] = policy.options.by_name()
    decided: dict[str, str] = {}
    if policy.tenant_options == "ignore":
        counted = [level for level in levels if not level.by_tenant]
    else:
        counted = list(levels)
    for name, value, who in _settings(counted):
        option = BY_NAME[name]
        stricter = option.strictness(value) > option.strictness(chosen[name])
        if stricter or policy.tenant_options == "any":
            chosen[name], decided[name] = value, who
    return EffectiveOptions(
        options=MetadataOptions(**chosen),
        host_names=policy.host_names,
        decided=tuple(sorted(decided.items())),
        unknown=tuple(tag for level in levels for tag in level.unknown),
    )


def split_host_names(text: str) -> tuple[str, ...]:
    """Split a list of host names, separated by commas, in lower case.

    Raises:
        ValueError: one of them is no name of a host.
    """
    names = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    for name in names:
        if len(name) > MAX_NAME or not _HOST_NAME.fullmatch(name):
            raise ValueError(f"{_shown(name)} is no name of a host")
    return names


def _settings(levels: Sequence[Level]) -> Iterator[tuple[str, Value, str]]:
    for level in levels:
        for name, value in level.values:
            yield name, value, level.who


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} must be a list of texts")
    return tuple(value)


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 4]}...{text[-1]}"
