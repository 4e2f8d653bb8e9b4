"""`mn-conf`: reads and writes the deployment's configuration, as MidoNet's operators know it.

Exit status: 0 done, 1 failure, 2 usage, 3 the store cannot be reached, 11 there is no such key.
`-h` chooses a host and is never help.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any, TextIO

import click

import ovs_metadata
from ovs_metadata.agent.cli.common import Failure, Settings, print_json
from ovs_metadata.agent.cli.mn_conf_target import (
    NO_SUCH_KEY,
    force_option,
    host_of,
    host_option,
    opened,
    reading_options,
    target_of,
    template_option,
    warn,
    warn_of_combination,
)
from ovs_metadata.agent.cli.mn_conf_templates import (
    hosts,
    template_clear,
    template_get,
    template_list,
    template_set,
)
from ovs_metadata.agent.conf.effective import (
    SCHEMA,
    Effective,
    effective,
    generation,
    no_such_key,
)
from ovs_metadata.agent.conf.hocon import HoconError, parse, render
from ovs_metadata.agent.conf.schema import LARGEST_SECRET, SHARED_SECRET, Key, known_keys, shown
from ovs_metadata.host.documents import Values, below, change, decode, encode, nested, replace
from ovs_metadata.host.sources import Source, read_source, read_sources


@click.group(context_settings={"help_option_names": ["--help"]})
@click.option(
    "--config",
    metavar="FILE",
    help="Configuration file that says where the store is.  "
    "[default: /etc/ovs-metadata/agent.conf, if it exists]",
)
@click.option("--store", metavar="URL", help="Use this store and not the configured one.")
@click.version_option(ovs_metadata.__version__, prog_name="mn-conf")
@click.pass_context
def main(context: click.Context, config: str | None, store: str | None) -> None:
    """Read and write the configuration of the deployment's hypervisors, which apply it live.

    A host's own value wins over that of the template assigned to it, that over the template
    "default", and that over what is built in. Without -h or -t a command is about this host.

    Exit status: 0 done, 1 failure, 2 usage, 3 the store cannot be reached, 11 no such key.
    """
    for name in (ovs_metadata.__name__, "kazoo"):
        logging.getLogger(name).addHandler(logging.NullHandler())
    context.obj = Settings(config, store)


@main.command("set")
@click.argument("text", metavar="[HOCON]", nargs=-1)
@host_option
@template_option
@click.option("-c", "--clear", is_flag=True, help="Replace all there is, instead of adding to it.")
@click.option(
    "--secret-file",
    type=click.File("r"),
    help="Set the shared secret to what is in this file, - for standard input. It then stands on "
    "no command line.",
)
@force_option
@click.pass_obj
def set_values(
    settings: Settings,
    *,
    text: tuple[str, ...],
    host: str | None,
    template: str | None,
    clear: bool,
    secret_file: TextIO | None,
    force: bool,
) -> None:
    """Set keys, given as HOCON: an argument, or standard input if there is none."""
    target = target_of(settings, host, template)
    given: dict[str, Any] = {}
    if text:
        given |= _parsed(" ".join(text))
        if SHARED_SECRET in given:
            warn(
                "a secret on the command line can be seen by other users; better give it on "
                "standard input, or with --secret-file"
            )
    elif secret_file is None:
        given |= _parsed(_standard_input())
    if secret_file is not None:
        given[SHARED_SECRET] = _secret(secret_file)
    _check(given, force=force)

    def replaced(data: bytes | None) -> bytes | None:
        values = given if clear else {**decode(data), **given}
        return encode(values) if values else None

    with opened(settings) as store:
        replace(store, target.path, replaced)
        warn_of_combination(store, target)


@main.command("unset")
@click.argument("key")
@host_option
@template_option
@click.pass_obj
def unset(settings: Settings, *, key: str, host: str | None, template: str | None) -> None:
    """Remove a key, or all keys below one, so that the next source's value counts."""
    target = target_of(settings, host, template)
    removed: Values = {}

    def without(values: Values) -> Values:
        nonlocal removed
        removed = below(values, key)
        return {name: value for name, value in values.items() if name not in removed}

    with opened(settings) as store:
        change(store, target.path, without)
        warn_of_combination(store, target)
    if not removed:
        if not below(known_keys(), key):
            raise Failure(no_such_key(key), NO_SUCH_KEY)
        warn(f"{key} was not set for {target.name}")


@main.command("get")
@click.argument("key", required=False)
@reading_options
@click.pass_obj
def get(settings: Settings, /, key: str | None, **options: Any) -> None:
    """Print the value of a key, what is below one, or without one everything."""
    _show(settings, key or "", **options)


@main.command("dump")
@reading_options
@click.pass_obj
def dump(settings: Settings, /, **options: Any) -> None:
    """Print everything."""
    _show(settings, "", **options)


@main.command("doc")
@click.argument("key", required=False)
@click.pass_obj
def doc(_settings: Settings, key: str | None) -> None:
    """Say what a key means, or all of them."""
    chosen = below(known_keys(), key or "")
    if not chosen:
        raise Failure(no_such_key(key or ""), NO_SUCH_KEY)
    click.echo(
        "\n\n".join("\n".join([known.name, *_described(known)]) for known in chosen.values())
    )


@main.command("import")
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File of HOCON or JSON.",
)
@click.option("-a", "--all", "everything", is_flag=True, help="Also values that are the default.")
@host_option
@template_option
@force_option
@click.pass_obj
def import_file(
    settings: Settings,
    *,
    path: Path,
    everything: bool,
    host: str | None,
    template: str | None,
    force: bool,
) -> None:
    """Set the keys of a file, those that differ from what is built in."""
    target = target_of(settings, host, template)
    try:
        given = _parsed(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"{path}: {error}") from error
    known = known_keys()
    if not everything:
        given = {
            name: value
            for name, value in given.items()
            if name not in known or known[name].default != value
        }
    _check(given, force=force)
    with opened(settings) as store:
        change(store, target.path, lambda values: {**values, **given})
        warn_of_combination(store, target)
    click.echo(f"{len(given)} keys imported into {target.name}:")
    click.echo(render(_shown(given, secrets=False)), nl=False)


def _parsed(text: str) -> Values:
    try:
        return parse(text)
    except HoconError as error:
        raise Failure(str(error)) from error


def _standard_input() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise Failure("standard input is not text") from error


def _secret(file: TextIO) -> str:
    try:
        secret = file.read(LARGEST_SECRET + 2).strip()
    except UnicodeDecodeError as error:
        raise Failure("the secret file is not text") from error
    if not secret:
        raise Failure("the secret file is empty")
    return secret


def _check(given: Values, *, force: bool) -> None:
    """End the command if a key is unknown or a value bad; say all that is wrong."""
    known = known_keys()
    unknown = [no_such_key(name) for name in given if name not in known]
    if unknown and not force:
        raise Failure("; ".join(unknown) + "; --force sets it all the same", NO_SUCH_KEY)
    for line in unknown:
        warn(line)
    problems = [
        f"{name} {problem}"
        for name, value in given.items()
        if name in known and (problem := known[name].problem(value))
    ]
    if problems:
        raise Failure("; ".join(problems))


def _show(
    settings: Settings,
    key: str,
    *,
    host: str | None,
    template: str | None,
    schema: bool,
    host_only: bool,
    as_json: bool,
    comments: bool,
    show_secrets: bool,
) -> None:
    found = _found(settings, host, template, schema=schema, host_only=host_only)
    chosen = _shown(below(found.values, key), secrets=show_secrets)
    if key and not chosen:
        known = below(known_keys(), key)
        raise Failure(f"{key} is not set there" if known else no_such_key(key), NO_SUCH_KEY)
    for problem in found.problems:
        warn(problem)
    if as_json:
        print_json(chosen[key] if key in chosen else nested(chosen))
    elif comments:
        click.echo(render(chosen, _comments(chosen, found)), nl=False)
        if not key and not (template or schema or host_only):
            click.echo(f"\n# generation {generation(found.values)}")
    elif key in chosen:
        value = chosen[key]
        click.echo(value if isinstance(value, str) else json.dumps(value))
    else:
        click.echo(render(chosen), nl=False)


def _found(
    settings: Settings, host: str | None, template: str | None, *, schema: bool, host_only: bool
) -> Effective:
    """The values that are meant."""
    if schema:
        if host is not None or template is not None or host_only:
            raise click.UsageError("-s does not go with -h, -t or -H.")
        return effective([])
    if template is None and not host_only:
        name = host_of(settings, host)
        with opened(settings) as store:
            return effective(read_sources(store, name))
    if template is not None and host_only:
        raise click.UsageError("-H does not go with -t.")
    target = target_of(settings, host, template)
    with opened(settings) as store:
        source = read_source(store, target.name, target.path)
    return _as_stored(source)


def _as_stored(source: Source) -> Effective:
    """One document alone, bad values included."""
    origins = dict.fromkeys(source.values, source.name)
    return Effective(source.values, origins, effective([source]).problems)


def _shown(values: Values, *, secrets: bool) -> dict[str, Any]:
    return dict(values) if secrets else {name: shown(name, values[name]) for name in values}


def _comments(values: Values, found: Effective) -> dict[str, list[str]]:
    known = known_keys()
    return {
        name: [
            *(_described(known[name]) if name in known else ["unknown to this release"]),
            *([f"from: {found.origins[name]}"] if found.origins[name] != SCHEMA else []),
        ]
        for name in values
    }


def _described(key: Key) -> list[str]:
    """What there is to know of a key, in lines."""
    kind = " or ".join(key.choices) if key.choices else key.type_name
    default = "empty" if key.default == "" else json.dumps(key.default)
    return [key.doc, f"{kind}; default: {default}"]


for command in (hosts, template_list, template_get, template_set, template_clear):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="mn-conf")
