"""What a worker is given: identities, settings, a user, confirmations."""
