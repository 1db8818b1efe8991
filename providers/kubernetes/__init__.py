"""Kubernetes membership: a small client for what Pulumi's own Kubernetes provider does not do (waits, drains)."""
