"""The clusters on Linux hosts beside the one of Talos, as the verbs of day two reach them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cli.observe import Lab
from components.login import login
from providers.errors import UserError
from providers.k3s.restore import Plan
from settings import FurtherCluster
from settings.secrets import PLACEHOLDER


@dataclass(frozen=True)
class Reached:
    """A cluster, and the way to its control planes.

    Attributes:
        endpoint: where people ask its API, and where servers join.
        logins: how each control plane is reached over SSH.
    """

    settings: FurtherCluster
    endpoint: str
    logins: dict[str, dict[str, Any]] = field(repr=False)

    @property
    def name(self) -> str:
        """Under `clusters` in the settings."""
        return self.settings.name

    @property
    def port(self) -> int:
        """Where each server's own API answers."""
        return self.settings.endpoint.server_port

    @property
    def plan(self) -> Plan:
        """For the provider."""
        return Plan(self.name, self.logins, self.endpoint, self.port)


def reached(lab: Lab, name: str, *, k3s: bool = False) -> Reached:
    """A cluster of the settings.

    Args:
        lab: the stack.
        name: the cluster's.
        k3s: whether only one of k3s will do.

    Raises:
        UserError: there is none of this name, it is not of k3s, or its SSH key can't be opened here.
    """
    known = {key: one for key, one in lab.settings.clusters.items() if one.k3s is not None or not k3s}
    found = known.get(name)
    if found is None:
        why = "is of kubeadm, whose etcd is restored by hand" if name in lab.settings.clusters else "is unknown"
        raise UserError(f"--cluster {name}: {why}; there are: {', '.join(known) or 'none'}")
    servers = [host for host in lab.settings.hosts_of(name) if host.is_control_plane]
    logins = {host.name: login(host, lab.settings) for host in servers}
    if any(one["key"] in (None, PLACEHOLDER) for one in logins.values()):
        raise UserError(f"--cluster {name}: the SSH key of its hosts can't be read: {lab.locked or 'it is not set'}")
    return Reached(found, found.endpoint.url(str(servers[0].address or "")), logins)
