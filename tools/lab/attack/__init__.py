"""Guests that do their worst."""
