"""`mn-conf`: reads and writes the deployment's configuration, as MidoNet's operators know it.

Exit status: 0 done, 1 failure, 2 usage, 3 the store cannot be reached, 11 there is no such key.
`-h HOST` chooses a host; `-h` alone is help.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import ovs_metadata
from ovs_metadata.agent.config.effective import (
    SCHEMA,
    Effective,
    config_digest,
    effective,
    no_such_key,
)
from ovs_metadata.agent.config.schema import SHARED_SECRET, Key, known_keys, shown
from ovs_metadata.cli.common import (
    CliContext,
    CommandError,
    echo,
    echo_text,
    print_json,
)
from ovs_metadata.cli.lazy import Program
from ovs_metadata.cli.mn_conf.hocon import render
from ovs_metadata.cli.mn_conf.input import (
    check,
    differing,
    key_name,
    parsed,
    parsed_file,
    secret_of,
    standard_input,
)
from ovs_metadata.cli.mn_conf.target import (
    NO_SUCH_KEY,
    Target,
    Verb,
    change_document,
    force_option,
    host_of,
    host_option,
    opened,
    reading_options,
    sources_of,
    target_of,
    template_option,
    warn,
)
from ovs_metadata.quantities import count_of
from ovs_metadata.store.configuration import ConfigSource, read_source, read_sources
from ovs_metadata.store.documents import Values, below, nested
from ovs_metadata.store.store import Store

_COMMANDS = {
    "hosts": (
        "mn_conf.templates:hosts",
        "Show the hosts that have values of their own, or a template.",
    ),
    "project-clear": (
        "mn_conf.projects:project_clear",
        "Remove all metadata options of a project's ports.",
    ),
    "project-list": (
        "mn_conf.projects:project_list",
        "Show the projects whose ports have metadata options of their own.",
    ),
    "project-set": (
        "mn_conf.projects:project_set",
        "Set metadata options of a project's ports, given as HOCON.",
    ),
    "template-clear": (
        "mn_conf.templates:template_clear",
        'Have a host use no template but "default".',
    ),
    "template-get": (
        "mn_conf.templates:template_get",
        "Print the template assigned to a host.",
    ),
    "template-list": (
        "mn_conf.templates:template_list",
        "Show the templates there are, and the hosts that use them.",
    ),
    "template-set": (
        "mn_conf.templates:template_set",
        'Have a host use a template: its values win over those of the template "default".',
    ),
}


class _Verbs(Program):
    command_class = Verb


@click.group(cls=_Verbs, lazy=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    metavar="FILE",
    help="Configuration file that says where the store is.  "
    "[default: /etc/ovs-metadata/agent.conf, if it exists]",
)
@click.option(
    "--store",
    metavar="URL",
    help="Use this store and not the configured one, with the same credentials and TLS.",
)
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
    context.obj = CliContext(config, store)


@main.command("set")
@click.argument("text", metavar="[HOCON]", nargs=-1)
@host_option
@template_option
@click.option("-c", "--clear", is_flag=True, help="Replace all there is, instead of adding to it.")
@click.option(
    "--secret-file",
    type=click.Path(allow_dash=True),
    help="Set the shared secret to what is in this file, - for standard input. It then appears on "
    "no command line.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Accept keys that nothing here reads, and with --clear also to set nothing.",
)
@click.pass_obj
def set_values(
    cli: CliContext,
    *,
    text: tuple[str, ...],
    host: str | None,
    template: str | None,
    clear: bool,
    secret_file: str | None,
    force: bool,
) -> None:
    """Set keys, given as HOCON: an argument, or standard input if there is none."""
    target = target_of(cli, host, template)
    given: dict[str, Any] = {}
    if text:
        given |= parsed(" ".join(text))
        if SHARED_SECRET in given:
            warn(
                "a secret on the command line can be seen by other users; better give it on "
                "standard input, or with --secret-file"
            )
    elif secret_file is None:
        given |= parsed(standard_input())
    if secret_file is not None:
        given[SHARED_SECRET] = secret_of(secret_file)
    if not given and not (clear and force):
        all_the_same = f"; --force clears {target.name} anyway" if clear else ""
        raise CommandError(f"there is nothing to set{all_the_same}")
    check(given, force=force)
    with opened(cli) as store:
        _change(store, target, lambda values: {**values, **given}, replace_all=clear)
    echo(f"{count_of(len(given), 'key')} set for {target.users}")


@main.command("unset")
@click.argument("key", callback=key_name)
@host_option
@template_option
@click.pass_obj
def unset(cli: CliContext, *, key: str, host: str | None, template: str | None) -> None:
    """Remove a key, or all keys below one, so that the next source's value counts."""
    target = target_of(cli, host, template)
    removed: Values = {}

    def without(values: Values) -> Values:
        nonlocal removed
        removed = below(values, key)
        return {name: value for name, value in values.items() if name not in removed}

    with opened(cli) as store:
        _change(store, target, without)
    if not removed:
        if not below(known_keys(), key):
            raise CommandError(no_such_key(key), NO_SUCH_KEY)
        warn(f"{key} was not set for {target.name}")
        return
    echo(f"{count_of(len(removed), 'key')} removed for {target.users}")


@main.command("get")
@click.argument("key", required=False, callback=key_name)
@reading_options
@click.pass_obj
def get(cli: CliContext, /, key: str | None, **options: Any) -> None:
    """Print the value of a key, what is below one, or without one everything."""
    _show(cli, key or "", **options)


@main.command("dump")
@reading_options
@click.pass_obj
def dump(cli: CliContext, /, **options: Any) -> None:
    """Print everything."""
    _show(cli, "", **options)


@main.command("doc")
@click.argument("key", required=False, callback=key_name)
@click.pass_obj
def doc(_cli: CliContext, key: str | None) -> None:
    """Say what a key means, or all of them."""
    chosen = below(known_keys(), key or "")
    if not chosen:
        raise CommandError(no_such_key(key or ""), NO_SUCH_KEY)
    echo_text("\n\n".join("\n".join([each.name, *_described(each)]) for each in chosen.values()))


@main.command("import")
@click.option(
    "-f",
    "--file",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="File of HOCON or JSON.",
)
@click.option(
    "-a", "--all", "show_all", is_flag=True, help="Also values that are effective already."
)
@host_option
@template_option
@force_option
@click.pass_obj
def import_file(
    cli: CliContext,
    *,
    path: Path,
    show_all: bool,
    host: str | None,
    template: str | None,
    force: bool,
) -> None:
    """Set the keys of a file whose values differ from the effective ones."""
    target = target_of(cli, host, template)
    given = parsed_file(path)
    check(given, force=force)
    imported: Values = {}

    def merged(values: Values) -> Values:
        nonlocal imported
        imported = given
        if not show_all:
            already = effective(sources_of(store, target)).values
            # An invalid value of the document is not effective; it is replaced, too.
            imported = differing(given, {**already, **values})
        return {**values, **imported}

    with opened(cli) as store:
        _change(store, target, merged)
    echo(f"{count_of(len(imported), 'key')} imported for {target.users}:")
    echo_text(render(_shown(imported, secrets=False)))
    skipped = [name for name in given if name not in imported]
    if skipped:
        echo(f"{len(skipped)} effective already, with these values:")
        echo(*(f"    {name}" for name in skipped))


def _change(
    store: Store,
    target: Target,
    changed: Callable[[Values], Values],
    *,
    replace_all: bool = False,
) -> None:
    """Change a document, and print the warnings."""
    for warning in change_document(store, target, changed, replace_all=replace_all):
        warn(warning)


def _show(
    cli: CliContext,
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
    found = _found(cli, host, template, schema=schema, host_only=host_only)
    chosen = _shown(below(found.values, key), secrets=show_secrets)
    if key and not chosen:
        known = below(known_keys(), key)
        raise CommandError(f"{key} is not set there" if known else no_such_key(key), NO_SUCH_KEY)
    for problem in found.problems:
        warn(problem)
    if as_json:
        print_json(chosen[key] if key in chosen else nested(chosen))
    elif comments:
        echo_text(render(chosen, _comments(chosen, found)))
        if not key and not (template or schema or host_only):
            echo("", f"# generation {config_digest(found.values)}")
    elif key in chosen:
        value = chosen[key]
        echo(value if isinstance(value, str) else json.dumps(value))
    else:
        echo_text(render(chosen))


def _found(
    cli: CliContext, host: str | None, template: str | None, *, schema: bool, host_only: bool
) -> Effective:
    """The values that are meant."""
    if schema:
        if host is not None or template is not None or host_only:
            raise click.UsageError("-s does not go with -h, -t or -H.")
        return effective([])
    if template is None and not host_only:
        name = host_of(cli, host)
        with opened(cli) as store:
            return effective(read_sources(store, name))
    if template is not None and host_only:
        raise click.UsageError("-H does not go with -t.")
    target = target_of(cli, host, template)
    with opened(cli) as store:
        source = read_source(store, target.name, target.path)
    return _as_stored(source)


def _as_stored(source: ConfigSource) -> Effective:
    """One document alone, bad values included."""
    origins = dict.fromkeys(source.values, source.name)
    return Effective(source.values, origins, effective([source]).ignored)


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


if __name__ == "__main__":
    main(prog_name="mn-conf")
