"""Stand-ins: small programs in place of Nova, Neutron's agents, ovn-controller."""
