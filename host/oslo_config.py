"""oslo.config, without libraries that it loads for options of kinds that we have none of.

rfc3986, for options that are URIs, compiles its regular expressions when it is loaded: as slow as
the rest of oslo.config. stevedore is for configuration from other places than files.
"""

from ovs_metadata.imports import postpone_init

postpone_init("rfc3986")
postpone_init("stevedore")

from oslo_config import cfg  # noqa: E402 - it imports them

__all__ = ["cfg"]
