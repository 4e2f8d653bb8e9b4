"""Builds the documentation, the man pages and the generated pages."""
