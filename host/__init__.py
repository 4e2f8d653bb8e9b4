"""What one hypervisor says of itself: its local configuration, its OVSDB, its ports."""
