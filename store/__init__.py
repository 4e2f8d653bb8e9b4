"""Port records and the deployment's configuration: the interface, ZooKeeper and a directory."""
