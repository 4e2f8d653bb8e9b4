"""Which OpenFlow library this process uses, and its modules by name.

The library is Ryu when a Ryu process imports this (ryu-manager), os-ken otherwise: both have the
same API.
"""

import importlib
import sys
from typing import Any

LIBRARY = "ryu" if "ryu.base.app_manager" in sys.modules else "os_ken"


def library(module: str) -> Any:
    """A module of the library."""
    return importlib.import_module(f"{LIBRARY}.{module}")
