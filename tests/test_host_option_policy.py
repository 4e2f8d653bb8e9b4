"""The deployment's metadata options: the agent and the flow controller agree on them."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.agent.config.deployment import make_deployment
from ovs_metadata.agent.config.effective import effective
from ovs_metadata.agent.config.schema import known_keys
from ovs_metadata.host.option_policy import (
    HOST_NAMES_KEY,
    OPTION_KEYS,
    TENANT_OPTIONS_KEY,
    effective_policy,
    policy_of,
    values_of_policy,
)
from ovs_metadata.metadata_options import OPTIONS, TENANT_OPTIONS, OptionPolicy
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store.configuration import ConfigSource

odd: st.SearchStrategy[Any] = st.sampled_from([None, True, 1.0, -1, "", "x", "http://x", [], {}])
stored = st.fixed_dictionaries(
    {},
    optional={
        **{OPTION_KEYS[each.name]: st.sampled_from(each.values) | odd for each in OPTIONS},
        TENANT_OPTIONS_KEY: st.sampled_from(TENANT_OPTIONS) | odd,
        HOST_NAMES_KEY: st.sampled_from(["", "md", "MD.example, b"]) | odd,
    },
)


def sources(host: dict[str, Any], template: dict[str, Any]) -> list[ConfigSource]:
    return [ConfigSource("host a", host), ConfigSource("template default", template)]


def the_agents(found: list[ConfigSource], before: OptionPolicy | None) -> OptionPolicy:
    kept = None if before is None else values_of_policy(before)
    made = make_deployment(effective(found, kept).values, Settings())
    assert made is not None
    return made.options


@given(stored, stored, stored, stored)
def test_the_flow_controller_has_the_agents_policy(
    host: dict[str, Any], template: dict[str, Any], host2: dict[str, Any], template2: dict[str, Any]
) -> None:
    first = effective_policy(sources(host, template))
    assert first == the_agents(sources(host, template), None)
    later = effective_policy(sources(host2, template2), first)
    assert later == the_agents(sources(host2, template2), first)


@given(stored)
def test_a_policys_values_make_the_same_policy(values: dict[str, Any]) -> None:
    policy = effective_policy(sources(values, {}))
    assert policy_of(values_of_policy(policy)) == policy


def test_without_values_the_policy_is_the_default() -> None:
    assert effective_policy([]) == OptionPolicy()
    defaults = {key.name: key.default for key in known_keys().values()}
    assert policy_of(defaults) == OptionPolicy()
