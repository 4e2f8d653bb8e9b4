"""apt-get with a state of its own: it knows one suite of Debian, and no package as installed.

Nothing of this machine's apt or dpkg is changed.
"""

from pathlib import Path

from lab.upstream.debian_root import mirror


def apt_get(state: Path, suite: str) -> list[str]:
    """The beginning of its command line; `state` is a directory for it alone."""
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(f"deb {mirror()} {suite} main\n")
    (state / "status").touch()
    options = {
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",  # the cache may be closed to apt's own user
        "Acquire::Languages": "none",
        "Dir::Cache": state,
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
    }
    return ["apt-get", *(f"--option={name}={value}" for name, value in options.items())]
