"""Failures of Neutron's API. Needs no OpenStack library."""

from __future__ import annotations


class NeutronUnavailable(Exception):
    """Neutron's API cannot be used; the message is one line that says why."""


class NeutronRefused(Exception):
    """Neutron refused a request; the message is Neutron's, on one line."""
