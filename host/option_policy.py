"""The deployment's part of the metadata options: its keys, and the policy that their values make.

Pure functions. Two processes read the same keys, the agent and the flow controller, so the rule for
an invalid value is the one of all keys: the value before it stays effective, and without one the
next source decides.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ovs_metadata.metadata_options import (
    OPTIONS,
    TENANT_OPTIONS,
    MetadataOptions,
    OptionPolicy,
    split_host_names,
)
from ovs_metadata.store.configuration import ConfigSource, values_of

_PREFIX = "agent.openstack.metadata.options"

TENANT_OPTIONS_KEY = f"{_PREFIX}.tenant_options"
HOST_NAMES_KEY = f"{_PREFIX}.host_names"

OPTION_KEYS: Mapping[str, str] = {option.name: f"{_PREFIX}.{option.name}" for option in OPTIONS}
"""Option → key."""


def problem_of_host_names(value: object) -> str | None:
    """Return why a value of `HOST_NAMES_KEY` is invalid, or None."""
    if not isinstance(value, str):
        return "must be a text"
    try:
        split_host_names(value)
    except ValueError as error:
        return f"must be names of hosts separated by commas: {error}"
    return None


def _problem_of_tenant_options(value: object) -> str | None:
    return None if value in TENANT_OPTIONS else f"must be {' or '.join(TENANT_OPTIONS)}"


_PROBLEMS: Mapping[str, Callable[[object], str | None]] = {
    **{OPTION_KEYS[option.name]: option.problem for option in OPTIONS},
    TENANT_OPTIONS_KEY: _problem_of_tenant_options,
    HOST_NAMES_KEY: problem_of_host_names,
}
"""Key → the fault of a value."""


def policy_of(values: Mapping[str, Any]) -> OptionPolicy:
    """Return the policy of valid values; a missing one has its default."""
    chosen = {name: values[key] for name, key in OPTION_KEYS.items() if key in values}
    return OptionPolicy(
        options=MetadataOptions(**chosen),
        tenant_options=values.get(TENANT_OPTIONS_KEY, "tighten"),
        host_names=split_host_names(values.get(HOST_NAMES_KEY, "")),
    )


def values_of_policy(policy: OptionPolicy) -> dict[str, Any]:
    """Return the values by key that make a policy."""
    return {
        **{OPTION_KEYS[name]: value for name, value in policy.options.by_name().items()},
        TENANT_OPTIONS_KEY: policy.tenant_options,
        HOST_NAMES_KEY: ",".join(policy.host_names),
    }


def effective_policy(
    sources: Sequence[ConfigSource], before: OptionPolicy | None = None
) -> OptionPolicy:
    """Return the policy that is effective.

    Args:
        sources: the documents, the highest precedence first.
        before: the effective policy until now; None at the start.
    """
    kept = values_of_policy(before) if before is not None else {}
    chosen: dict[str, Any] = {}
    for key, problem in _PROBLEMS.items():
        for _, value in values_of(sources, key):
            if problem(value) is None:
                chosen[key] = value
                break
            if key in kept:
                chosen[key] = kept[key]
                break
    return policy_of(chosen)
