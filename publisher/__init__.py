"""The Neutron side: a service plugin that publishes port records, and a comparison in bulk."""
