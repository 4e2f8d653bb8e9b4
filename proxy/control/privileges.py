"""Becoming an ordinary user: the last step of a worker before it accepts connections.

Root starts a worker. It opens its sockets and loads its modules, which may be where only root can
read. After this step it has no capabilities, and no way to get any back.
"""

import contextlib
import ctypes
import encodings.idna  # noqa: F401 - name resolution loads it, when that is too late
import os
import pwd
import resource

_PR_SET_NO_NEW_PRIVS = 38
"""Of prctl(2): no program that this process executes gains privileges, as by set-user-ID."""


class PrivilegeError(Exception):
    """The process cannot become that user; the message is the cause, in one line."""


OPEN_FILES = 65536
"""Descriptors of a worker: a connection takes one, and another one during its request to Nova."""


def allow_many_connections() -> None:
    """Raise the limit of open files as far as this process may."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < OPEN_FILES:
        with contextlib.suppress(ValueError, PermissionError):  # in some places not even root may
            resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


def become_user(name: str) -> None:
    """Give up root for good and become this user, with only its primary group.

    Raises:
        PrivilegeError: the user does not exist or is root, or the process is not root.
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
