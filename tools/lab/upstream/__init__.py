"""The real Nova, Neutron, cloud-init, devstack and Ryu: installed once, and run."""
