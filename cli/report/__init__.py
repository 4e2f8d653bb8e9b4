"""`ovs-metadata report`: one archive about a host, for who is to find out what is wrong with it."""
