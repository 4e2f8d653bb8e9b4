"""A guest's connection, and what its port may use."""
