"""HTTP as values: heads, bodies, their parsers, the proxy's own responses."""
