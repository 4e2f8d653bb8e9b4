"""Loads less of a library than the library would load by itself.

Every process pays for its imports with memory for as long as it runs, and each command with time.
"""

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def not_importing(package: str) -> Iterator[None]:
    """Inside the block an optional package counts as not installed.

    A package that is loaded already stays importable: some other part of the process uses it.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment] # "import" then raises ImportError
    try:
        yield
    finally:
        del sys.modules[package]


class _StandIn(ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        made = type(name, (), {})
        setattr(self, name, made)
        return made


def replace_by_stand_in(module: str, **values: object) -> None:
    """Have a module that a library imports and we never use be an empty one, with these values.

    A module that is loaded already stays.
    """
    if module not in sys.modules:
        sys.modules[module] = stand_in = _StandIn(module)
        vars(stand_in).update(values)


def postpone_init(package: str) -> None:
    """Have a package run its `__init__` when a name that only that one has is first used.

    That is for a package whose `__init__` imports all its modules. Its modules are importable as
    usual. A package that is loaded already stays as it is.
    """
    spec = None if package in sys.modules else importlib.util.find_spec(package)
    if spec is None or spec.loader is None:
        return
    loader = spec.loader
    module = importlib.util.module_from_spec(spec)

    def missing(name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if importlib.util.find_spec(f"{package}.{name}") is not None:
            return importlib.import_module(f"{package}.{name}")
        del module.__getattr__
        loader.exec_module(module)
        return getattr(module, name)

    module.__getattr__ = missing  # type: ignore[method-assign] # PEP 562
    sys.modules[package] = module
