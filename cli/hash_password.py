"""`ovs-metadata hash-password`: makes a line for the file of users of the admin listener."""

import secrets
import sys

import click

from ovs_metadata.cli.common import CommandError, echo
from ovs_metadata.passwords import SALT_BYTES, hashed


@click.command("hash-password")
@click.argument("name")
def hash_password(name: str) -> None:
    """Make the line of a user for the file [admin] users_file.

    The password is asked for, or read as the first line of standard input.
    """
    if ":" in name or not name.isprintable() or name.startswith("#"):
        raise click.BadParameter("a name has no colon.", param_hint="NAME")
    if sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    if not password:
        raise CommandError("the password is empty")
    echo(f"{name}:{hashed(password, secrets.token_bytes(SALT_BYTES))}")
