"""One Linux host, ready for Kubernetes: what it is reached by, and what it must have before a cluster comes."""

from __future__ import annotations

from typing import Any

import pulumi

from components.login import login as reached
from providers.ssh.resources import Prepared
from settings import Settings
from settings.hosts import Host as HostSettings


def login(host: HostSettings, lab: Settings) -> dict[str, Any]:
    """How a host is reached, its key a secret."""
    found = reached(host, lab)
    return {**found, "key": pulumi.Output.secret(found["key"])}


class Host(pulumi.ComponentResource):
    """A host, prepared. What a distribution puts on it are more children, with its name before a dash."""

    def __init__(self, host: HostSettings, lab: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("homelab:Host", host.name, None, opts)
        self.settings = host
        self.login = login(host, lab)
        props = {**self.login, "time_servers": list(host.time_servers), "allow_reboot": host.allow_reboot}
        self.prepared = Prepared(f"{host.name}-prepared", props, self.child())
        self.register_outputs({})

    def child(
        self, needs: pulumi.Resource | None = None, deleted_with: pulumi.Resource | None = None
    ) -> pulumi.ResourceOptions:
        """Options of a resource of this host."""
        depends_on = [needs] if needs is not None else []
        return pulumi.ResourceOptions(parent=self, depends_on=depends_on, deleted_with=deleted_with)
