"""The store in ZooKeeper."""
