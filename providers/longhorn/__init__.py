"""Longhorn: what nodes must have for it, when it is ready, and how replicas leave a node before the node does."""
