"""Registers clusters with a Rancher server."""
