"""The operators' commands, and what they share."""
