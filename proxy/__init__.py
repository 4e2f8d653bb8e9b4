"""The metadata proxy: knows the identity table, relays requests to Nova, holds no secret."""
