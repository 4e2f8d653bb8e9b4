"""The pipeline as values, and the application that applies it to the switch."""
