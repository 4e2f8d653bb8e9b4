"""What is counted, logged and reported of requests."""
