"""Moving a hypervisor from Neutron's metadata agent to ours, and back."""
