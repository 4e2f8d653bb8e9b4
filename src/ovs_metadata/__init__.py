"""OVS metadata agent: instance metadata through Open vSwitch flows, one agent per hypervisor."""

__version__ = "0.2.0"
