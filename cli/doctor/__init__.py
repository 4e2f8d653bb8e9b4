"""Finds out why an instance gets no metadata: facts are gathered, and pure checks judge them."""
