"""The command `mn-conf`: the deployment's configuration."""
