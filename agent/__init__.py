"""The hypervisor agent: plumbing, the identity table, supervision, operator commands."""
