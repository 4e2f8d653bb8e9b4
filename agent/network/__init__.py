"""The metadata port, its namespace and what listens there."""
