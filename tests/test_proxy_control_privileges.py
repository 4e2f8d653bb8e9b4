"""What a worker gives up before it reads a byte of a guest; the system's calls are played."""

import ctypes
import os
import pwd
import resource
from types import SimpleNamespace

import pytest

from ovs_metadata.proxy.control.privileges import (
    OPEN_FILES,
    PrivilegeError,
    allow_many_connections,
    become_user,
)

NO_NEW_PRIVS = 38
"""PR_SET_NO_NEW_PRIVS of linux/prctl.h."""


class Kernel:
    """Notes the calls of a worker, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.prctl_status = 0
        self.refuses = ""
        self.limits = (1024, 4096)
        self.may_raise: Exception | None = None
        users = {
            "proxy": SimpleNamespace(pw_uid=990, pw_gid=991),
            "toor": SimpleNamespace(pw_uid=0),
        }
        monkeypatch.setattr(pwd, "getpwnam", users.__getitem__)
        for name in ("setgroups", "setresgid", "setresuid"):
            monkeypatch.setattr(os, name, lambda *each, name=name: self._call(name, *each))
        library = SimpleNamespace(prctl=self._prctl)
        monkeypatch.setattr(ctypes, "CDLL", lambda _name: library)
        monkeypatch.setattr(resource, "getrlimit", lambda _: self.limits)
        monkeypatch.setattr(resource, "setrlimit", self._setrlimit)

    def _call(self, name: str, *arguments: object) -> None:
        if name == self.refuses:
            raise PermissionError(1, "Operation not permitted")
        self.calls.append((name, *arguments))

    def _prctl(self, *arguments: int) -> int:
        self._call("prctl", *arguments)
        return self.prctl_status

    def _setrlimit(self, what: int, limits: tuple[int, int]) -> None:
        assert what == resource.RLIMIT_NOFILE
        if self.may_raise and limits[1] > self.limits[1]:
            raise self.may_raise
        self.limits = limits


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def test_groups_and_group_are_given_up_before_the_user_and_for_good(kernel: Kernel) -> None:
    become_user("proxy")
    assert kernel.calls == [
        ("setgroups", []),
        ("setresgid", 991, 991, 991),
        ("setresuid", 990, 990, 990),
        ("prctl", NO_NEW_PRIVS, 1, 0, 0, 0),
    ]


@pytest.mark.parametrize(
    ("name", "reason"), [("missing", "there is no user 'missing'"), ("toor", "is root")]
)
def test_a_worker_becomes_no_root_and_no_unknown_user(
    kernel: Kernel, name: str, reason: str
) -> None:
    with pytest.raises(PrivilegeError, match=reason):
        become_user(name)
    assert kernel.calls == []


@pytest.mark.parametrize("call", ["setgroups", "setresgid", "setresuid"])
def test_a_worker_that_may_not_change_its_user_does_not_go_on(kernel: Kernel, call: str) -> None:
    kernel.refuses = call
    with pytest.raises(PrivilegeError, match="cannot become user proxy: Operation not permitted"):
        become_user("proxy")


def test_a_worker_that_could_get_privileges_again_does_not_go_on(kernel: Kernel) -> None:
    kernel.prctl_status = -1
    with pytest.raises(PrivilegeError, match="PR_SET_NO_NEW_PRIVS"):
        become_user("proxy")


@pytest.mark.parametrize(
    ("before", "refusal", "after"),
    [
        ((1024, 4096), None, (OPEN_FILES, OPEN_FILES)),
        ((1024, 4096), PermissionError(), (4096, 4096)),
        ((1024, 4096), ValueError(), (4096, 4096)),
        ((1024, OPEN_FILES), AssertionError("enough"), (OPEN_FILES, OPEN_FILES)),
        ((1024, 2 * OPEN_FILES), AssertionError("enough"), (2 * OPEN_FILES, 2 * OPEN_FILES)),
    ],
)
def test_a_worker_may_open_as_many_files_as_the_system_lets_it(
    kernel: Kernel, before: tuple[int, int], refusal: Exception | None, after: tuple[int, int]
) -> None:
    kernel.limits, kernel.may_raise = before, refusal
    allow_many_connections()
    assert kernel.limits == after
