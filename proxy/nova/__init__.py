"""The connections to Nova."""
