"""What a Linux host is before Kubernetes comes, as a Pulumi resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, lazily, packed
from providers.engine import Reporter

if TYPE_CHECKING:
    from providers.ssh import preconditions, reach
else:
    preconditions, reach = lazily("providers.ssh.preconditions"), lazily("providers.ssh.reach")

LOGIN = ("host", "address", "mac", "subnet", "user", "port", "key", "host_key")
"""The properties that every resource of a host is reached by."""


class PreparedProvider(Provider):
    """Sees to packages, modules, sysctls, swap, cgroups and time. Deleting it undoes nothing: nothing was harmed."""

    inputs = (*LOGIN, "time_servers", "allow_reboot")

    def create(self, props: Props) -> CreateResult:
        """Change what is not right yet; on a host that is, nothing."""
        return CreateResult(f"{props['host']}-prepared", self.stored(props, **_prepared(props)))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """The same again."""
        return UpdateResult(self.stored(news, **_prepared(news)))

    def read(self, id_: str, props: Props) -> ReadResult:
        """What was changed by hand is found by the next change of the host, not by looking at it each time."""
        return ReadResult(id_, props)


def _prepared(props: Props) -> Props:
    report = Reporter()
    target = reach.target(props)
    times = [str(server) for server in props["time_servers"]]
    allow = bool(props["allow_reboot"])
    changed = preconditions.prepare(target, times, allow_reboot=allow, progress=report.progress)
    for word in changed:
        report.info(word)
    return {"found_at": target.address}


class Prepared(Resource, module="ssh", name="Prepared"):
    """A Linux host that is ready for Kubernetes; `found_at` is its address."""

    found_at: pulumi.Output[str]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(PreparedProvider(), name, {**packed(props), "found_at": None}, opts)
