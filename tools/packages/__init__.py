"""What the packages of the agent hold, for those who build and inspect them."""
