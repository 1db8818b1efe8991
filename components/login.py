"""How a Linux host is reached, for the program and for the command alike. Knows nothing of Pulumi."""

from __future__ import annotations

from typing import Any

from settings import Host, Settings
from settings.models import plain


def login(host: Host, lab: Settings) -> dict[str, Any]:
    """How a host is reached: its own words first, then its cluster's. The key is in plain."""
    shared = lab.clusters[host.cluster].ssh
    return {
        "host": host.name,
        "address": str(host.address) if host.address is not None else "",
        "mac": host.mac or "",
        "subnet": str(lab.cluster.network.subnet),
        "user": host.ssh.user or shared.user,
        "port": host.ssh.port or shared.port,
        "key": plain(host.ssh.key or shared.key),
        "host_key": host.ssh.host_key,
    }
