"""Tenants: clusters whose control planes are pods of the home cluster."""
