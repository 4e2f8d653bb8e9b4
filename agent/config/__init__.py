"""The deployment's configuration: its keys, the documents it is made of, and who wins."""
