"""Machines, switches, guests and servers that tests start for themselves."""
