"""Port records from OVN's southbound database, for the ports of this host alone."""
