"""Small programs that stand for others: Nova, Neutron's agents, ovn-controller."""
