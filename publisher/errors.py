"""What can go wrong with Neutron's API. Needs no library of OpenStack's."""


class NeutronUnavailable(Exception):
    """Neutron's API cannot be used; the message is one line that says why."""


class NeutronRefused(Exception):
    """Neutron did not do what it was asked to; the message is what it said, on one line."""
