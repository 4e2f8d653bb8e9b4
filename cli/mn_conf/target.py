"""What the subcommands of `mn-conf` share: whose configuration is meant, exit statuses, errors."""

import contextlib
import difflib
import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import Any, TypeVar

import click

from ovs_metadata.agent.config.deployment import combination_problem
from ovs_metadata.agent.config.effective import effective
from ovs_metadata.agent.config.world_readable_secret import secret_warnings
from ovs_metadata.cli.common import (
    CliContext,
    CommandError,
    echo,
)
from ovs_metadata.cli.listing import Listing, listing_options
from ovs_metadata.store import layout
from ovs_metadata.store.configuration import (
    DEFAULT_TEMPLATE,
    ConfigSource,
    assigned_template,
    host_source_name,
    read_sources,
    read_template,
    template_source_name,
)
from ovs_metadata.store.documents import (
    MalformedDocument,
    Unstorable,
    Values,
    decode,
    encode,
    replace,
)
from ovs_metadata.store.store import Store

NO_SUCH_KEY = 11

LOCAL = "local"
"""The special name of this host."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Verb(click.Command):
    """A verb of `mn-conf`: `-h` without a host after it is help."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments."""
        return super().parse_args(ctx, ["--help"] if args == ["-h"] else args)


@dataclass(frozen=True, slots=True)
class Target:
    """A document: a host's own, or a template. by_name: the command line names the host."""

    host: str | None
    template: str | None
    by_name: bool = False

    @property
    def name(self) -> str:
        """What to call it."""
        if self.template is not None:
            return template_source_name(self.template)
        return host_source_name(self.host or "")

    @property
    def users(self) -> str:
        """Whose configuration it is, after "for"."""
        if self.template == DEFAULT_TEMPLATE:
            return "all hosts"
        if self.template is not None:
            return f"the hosts that use template {self.template}"
        return f"host {self.host} only; -t default is for all hosts"

    @property
    def path(self) -> str:
        """Where it is in the store."""
        if self.template is not None:
            return layout.config_template_path(self.template)
        return layout.config_node_path(self.host or "")


host_option = click.option(
    "-h", "--host", metavar="HOST", help="Configuration of this host; local: the one you are on."
)
template_option = click.option(
    "-t", "--template", metavar="NAME", help="This template; default: the whole deployment's."
)
schema_option = click.option(
    "-s", "--schema", is_flag=True, help="Only what is built in: all keys, and their defaults."
)
own_option = click.option(
    "-H", "--host-only", is_flag=True, help="Only what is set for the host itself."
)
json_option = click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON.")
comments_option = click.option(
    "-c", "--comments", is_flag=True, help="Say what each key means, and where its value is from."
)
secrets_option = click.option("--show-secrets", is_flag=True, help="Print secrets as they are.")
force_option = click.option("--force", is_flag=True, help="Accept keys that nothing here reads.")


def reading_options(command: _Command) -> _Command:
    """Add the options of the commands that show configuration."""
    for option in reversed(
        (
            *(host_option, template_option, schema_option, own_option),
            *(json_option, comments_option, secrets_option),
        )
    ):
        command = option(command)
    return command


def verb_listing_options(command: _Command) -> _Command:
    """Add the options of a verb that lists, and -j; it gets them as `listing`."""

    @functools.wraps(command)
    def with_json(*args: Any, listing: Listing, as_json: bool, **options: Any) -> Any:
        chosen = replace_fields(listing, output="json") if as_json else listing
        return command(*args, listing=chosen, **options)

    return listing_options(json_option(with_json))  # type: ignore[return-value]


def host_of(cli: CliContext, host: str | None) -> str:
    """The name of a host; without one, and for `local`, this one's.

    Raises:
        BadParameter: it cannot be a host's name.
    """
    name = cli.load_config().host if host in {None, LOCAL} else host or ""
    return checked_name(name, layout.config_node_path, "'-h'")


def target_of(cli: CliContext, host: str | None, template: str | None) -> Target:
    """The document that is meant; without either, this host's own.

    Raises:
        UsageError: both are given, or a name cannot be one.
    """
    if template is None:
        return Target(host_of(cli, host), None, by_name=host not in {None, LOCAL})
    if host is not None:
        raise click.UsageError("-h and -t do not go together.")
    return Target(None, checked_name(template, layout.config_template_path, "'-t'"))


@contextlib.contextmanager
def opened(cli: CliContext) -> Iterator[Store]:
    """The store, for the time of the block; its errors end the command."""
    with cli.open_store() as store:
        try:
            yield store
        except Unstorable as error:
            raise CommandError(f"nothing was changed: {error}") from error
        except MalformedDocument as error:
            raise CommandError(
                f"{error}; mn-conf set --clear with -h or -t replaces the document"
            ) from error


def sources_of(store: Store, target: Target) -> list[ConfigSource]:
    """The sources that a document is effective with: its host's, or the template's."""
    if target.template is None:
        return read_sources(store, target.host or "")
    return [
        read_template(store, name) for name in dict.fromkeys((target.template, DEFAULT_TEMPLATE))
    ]


def change_document(
    store: Store,
    target: Target,
    changed: Callable[[Values], Values],
    *,
    replace_all: bool = False,
) -> list[str]:
    """Change the values of a document, and return what operators are to be warned of.

    Args:
        store: where it is.
        target: which one.
        changed: makes the new values of the present ones; may be called several times.
        replace_all: ignore the present values, which need not be readable.

    Raises:
        MalformedDocument: what is stored is no configuration; names it.
        Unstorable: the new values are no configuration.
        StoreError: the store cannot be used.
    """
    after: Values = {}

    def replaced(data: bytes | None) -> bytes | None:
        nonlocal after
        try:
            before = {} if replace_all else decode(data)
        except MalformedDocument as error:
            raise MalformedDocument(f"{target.name}: {error}") from None
        after = changed(before)
        return encode(after) if after else None

    replace(store, target.path, replaced)
    return [
        *unknown_warnings(store, target),
        *_combination_warnings(store, target),
        *secret_warnings(store, [ConfigSource(target.name, after, target.path)]),
    ]


def assigned_templates(store: Store) -> dict[str, str]:
    """Host → template, of the hosts that have one."""
    return {
        host: assigned_template(data) for host, data in documents(store, layout.CONFIG_ASSIGNMENTS)
    }


def documents(store: Store, path: str) -> Iterator[tuple[str, bytes]]:
    """The documents below a path, by name, which may be any name."""
    for node in store.document_names(path):
        document = store.read_document(f"{path}/{node}")
        if document:
            yield layout.name_of(node), document.data


def unknown_warnings(store: Store, target: Target) -> list[str]:
    """A warning if no host uses a template, or no agent has ever run on a host."""
    if target.template == DEFAULT_TEMPLATE or not (target.template or target.by_name):
        return []
    if target.template is not None:
        used = set(assigned_templates(store).values())
        if target.template in used:
            return []
        return [
            f"no host uses template {target.template}: mn-conf template-set -h HOST -t "
            f"{target.template} assigns it{_nearest(target.template, used)}"
        ]
    agents = set(map(layout.name_of, store.document_names(layout.AGENTS)))
    if target.host in agents:
        return []
    return [
        f"no agent of a host {target.host} is in the store{_nearest(target.host or '', agents)}"
    ]


def _nearest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def warn(message: str) -> None:
    """Print a warning on standard error."""
    echo(f"mn-conf: {message}", err=True)


def _combination_warnings(store: Store, target: Target) -> list[str]:
    """What is contradictory in the effective values of the hosts that use a document.

    The command stores them all the same: a later command, or another document, may complete them.
    It does not check the files that keys name: they are on the hypervisors.
    """
    try:
        sources = sources_of(store, target)
    except MalformedDocument as error:
        return [f"{error}: hosts that have never read it otherwise wait until it is corrected"]
    problem = combination_problem(effective(sources).values)
    if not problem:
        return []
    return [
        f"with {target.name}, {problem}: hosts use none of these settings until that is corrected"
    ]


def checked_name(name: str, path_of: Callable[[str], str], option: str) -> str:
    """The name, if it can be one; raises BadParameter otherwise."""
    try:
        path_of(name)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", param_hint=option) from error
    return name
