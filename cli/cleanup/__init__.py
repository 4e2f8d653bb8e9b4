"""The commands `ovs-metadata cleanup …`: what Neutron's DHCP agents leave behind."""
