"""Longhorn as its managers and its CSI driver would run it (facts 4): nodes, volumes, and replicas on real disks."""
