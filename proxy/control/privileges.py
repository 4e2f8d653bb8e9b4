"""Becoming an ordinary user: the last thing a worker does before it meets a guest.

A worker is started by root with its sockets open and its modules loaded, which may lie where only
root can read. From then on it has no capabilities, and no way to get any back.
"""

import contextlib
import ctypes
import encodings.idna  # noqa: F401 - loaded by name resolution, when it is too late to load it
import os
import pwd
import resource

_PR_SET_NO_NEW_PRIVS = 38
"""Of prctl(2): nothing this process executes gains privileges, by set-user-ID for example."""


class PrivilegeError(Exception):
    """The process cannot become that user; the message is one line that says why."""


OPEN_FILES = 65536
"""Descriptors a worker may have: a connection takes one, and one more while Nova is asked."""


def allow_many_connections() -> None:
    """Raise the limit on open files as far as this process may."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < OPEN_FILES:
        with contextlib.suppress(ValueError, PermissionError):  # not even root may everywhere
            resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


def become_user(name: str) -> None:
    """Give up root for good and go on as this user, with its primary group alone.

    Raises:
        PrivilegeError: there is no such user, it is root, or the process is not root.
    """
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise PrivilegeError(f"there is no user {name!r}") from None
    if user.pw_uid == 0:
        raise PrivilegeError(f"{name} is root: a worker needs a user without privileges")
    try:
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    except PermissionError as error:
        raise PrivilegeError(f"cannot become user {name}: {error.strerror}") from None
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise PrivilegeError("the kernel knows no PR_SET_NO_NEW_PRIVS")
