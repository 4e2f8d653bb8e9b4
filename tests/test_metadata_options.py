"""Metadata options: their values, the tags that set them, and which level decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.metadata_options import (
    BY_NAME,
    DEPLOYMENT,
    OPTIONS,
    TENANT_OPTIONS,
    EffectiveOptions,
    Level,
    MetadataOptions,
    Option,
    OptionPolicy,
    level_of_tags,
    resolve,
    split_host_names,
)

values = st.fixed_dictionaries(
    {}, optional={option.name: st.sampled_from(option.values) for option in OPTIONS}
)
all_options: st.SearchStrategy[MetadataOptions] = st.builds(
    MetadataOptions, **{option.name: st.sampled_from(option.values) for option in OPTIONS}
)
levels = st.lists(
    st.tuples(st.sampled_from(["project", "network", "port"]), values).map(
        lambda pair: Level(pair[0], tuple(pair[1].items()), by_tenant=pair[0] != "project")
    ),
    max_size=4,
)


@given(all_options, levels)
def test_with_tighten_the_strictest_level_decides_each_option(
    deployment: MetadataOptions, given_levels: list[Level]
) -> None:
    found = resolve(OptionPolicy(options=deployment, tenant_options="tighten"), given_levels)
    for name, value in found.options.by_name().items():
        set_by = [
            (DEPLOYMENT, deployment.by_name()[name]),
            *((level.who, level.get(name)) for level in given_levels),
        ]
        strict = BY_NAME[name].strictness
        strictest = max(strict(each) for _, each in set_by if each is not None)
        assert strict(value) == strictest
        assert found.decided_by(name) == next(who for who, each in set_by if each == value)


@given(all_options, levels)
def test_with_any_the_nearest_level_decides_each_option(
    deployment: MetadataOptions, given_levels: list[Level]
) -> None:
    found = resolve(OptionPolicy(options=deployment, tenant_options="any"), given_levels)
    for name, value in found.options.by_name().items():
        set_by = [
            (DEPLOYMENT, deployment.by_name()[name]),
            *((level.who, level.get(name)) for level in given_levels),
        ]
        nearest = [pair for pair in set_by if pair[1] is not None][-1]
        assert (found.decided_by(name), value) == nearest


@given(all_options, levels)
def test_with_ignore_no_tenant_decides_anything(
    deployment: MetadataOptions, given_levels: list[Level]
) -> None:
    found = resolve(OptionPolicy(options=deployment, tenant_options="ignore"), given_levels)
    projects = [level for level in given_levels if not level.by_tenant]
    tighten = OptionPolicy(options=deployment, tenant_options="tighten")
    assert found.options == resolve(tighten, projects).options
    assert {who for _, who in found.decided} <= {"project"}


@given(all_options, levels, levels)
def test_with_tighten_another_level_never_loosens_an_option(
    deployment: MetadataOptions, some: list[Level], more: list[Level]
) -> None:
    policy = OptionPolicy(options=deployment, tenant_options="tighten")
    fewer, all_of_them = resolve(policy, some).options, resolve(policy, some + more).options
    assert not fewer.is_stricter_than(all_of_them)


@given(st.sampled_from(TENANT_OPTIONS), all_options, levels)
def test_effective_options_survive_their_json(
    mode: str, deployment: MetadataOptions, given_levels: list[Level]
) -> None:
    policy = OptionPolicy(options=deployment, tenant_options=mode, host_names=("md.example",))  # type: ignore[arg-type]
    found = resolve(policy, given_levels)
    assert EffectiveOptions.from_json(found.to_json()) == found


def test_the_defaults_take_no_room() -> None:
    assert resolve(OptionPolicy()).to_json() == {}
    assert EffectiveOptions.from_json({}) == EffectiveOptions()


def test_the_defaults_of_the_table_are_those_of_the_value() -> None:
    assert MetadataOptions().by_name() == {option.name: option.default for option in OPTIONS}
    assert not EffectiveOptions().guards


@pytest.mark.parametrize(
    ("options", "guards"),
    [
        (MetadataOptions(hop_limit=1), False),  # the switch has this one
        (MetadataOptions(tokens="off"), False),
        (MetadataOptions(tokens="required"), True),
        (MetadataOptions(endpoint="disabled"), True),
        (MetadataOptions(proxied="refuse"), True),
        (MetadataOptions(hosts="literal"), True),
    ],
)
def test_a_request_is_looked_at_if_an_option_may_refuse_it(
    options: MetadataOptions, guards: bool
) -> None:
    assert EffectiveOptions(options=options).guards is guards


def test_a_lower_hop_limit_is_stricter_and_none_is_the_loosest() -> None:
    by_strictness = [MetadataOptions(hop_limit=each) for each in (0, 64, 2, 1)]
    for index, stricter in enumerate(by_strictness):
        for looser in by_strictness[: index + 1]:
            assert stricter.is_stricter_than(looser) is (stricter != looser)
            assert not looser.is_stricter_than(stricter)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_value_of_an_option_is_what_its_text_says(option: Option) -> None:
    for value in option.values:
        assert option.problem(value) is None
        assert option.parse(str(value)) == value
    wrong: list[object] = ["", "REQUIRED", "01", "65", 65, -1, True, 1.0, None, [], "1 "]
    for each in wrong:
        assert option.problem(each)
        if isinstance(each, str):
            with pytest.raises(ValueError, match=f"{option.name} must be "):
                option.parse(each)


def test_tags_set_options_and_mistyped_ones_are_listed() -> None:
    tags = [
        "metadata:hop-limit=1",
        "metadata:tokens=required",
        "metadata:tokens=off",
        "metadata:tokens=sometimes",
        "metadata:tenant_options=any",
        "metadata:hosts",
        "metadata:",
        "blue",
    ]
    level = level_of_tags("port 1", tags)
    assert dict(level.values) == {"hop_limit": 1, "tokens": "required"}
    assert set(level.unknown) == {
        "metadata:tokens=sometimes",
        "metadata:tenant_options=any",
        "metadata:hosts",
        "metadata:",
    }


@given(st.lists(st.text(max_size=300).map(lambda text: f"metadata:{text}"), max_size=40))
def test_no_tag_makes_more_than_a_few_printable_lines(tags: list[str]) -> None:
    for text in level_of_tags("port 1", tags).unknown:
        assert text.isascii()
        assert text.isprintable()
        assert len(text) <= 80
    assert len(level_of_tags("port 1", tags).unknown) <= 16


@pytest.mark.parametrize(
    "data",
    [
        {"tenant_options": "any"},
        {"tokens": "yes"},
        {"hop_limit": "1"},
        {"host_names": "a"},
        {"decided": []},
        {"decided": {"token": "port 1"}},
        {"unknown": [1]},
    ],
)
def test_invalid_json_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|there is no option"):
        EffectiveOptions.from_json(data)


def test_host_names_are_split_and_checked() -> None:
    assert split_host_names(" MD.example , metadata,") == ("md.example", "metadata")
    assert split_host_names("") == ()
    for wrong in ("a b", "http://x", "a..b", "é", "x" * 254):
        with pytest.raises(ValueError, match="is no name of a host"):
            split_host_names(wrong)
