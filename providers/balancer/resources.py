"""HAProxy and keepalived on one host, as a Pulumi resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, ReadResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, changed_keys, lazily, packed
from providers.engine import Reporter
from providers.errors import HomelabError, UnreachableError
from providers.ssh.resources import LOGIN

if TYPE_CHECKING:
    from providers.balancer import config, hosts
    from providers.ssh import reach
else:
    config, hosts = lazily("providers.balancer.config"), lazily("providers.balancer.hosts")
    reach = lazily("providers.ssh.reach")


class BalancerProvider(Provider):
    """Keeps a host in front of a control plane."""

    inputs = (*LOGIN, "front", "sharing")

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Besides changed inputs: what a refresh found to be otherwise."""
        return DiffResult(changes=bool(olds.get("drift")) or bool(changed_keys(olds, news, self.inputs)))

    def create(self, props: Props) -> CreateResult:
        """Install both and have them run with the settings' files."""
        return CreateResult(f"{props['host']}-balancer", self.stored(props, drift=self._ensured(props)))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """The same again; connections are kept."""
        return UpdateResult(self.stored(news, drift=self._ensured(news)))

    def read(self, id_: str, props: Props) -> ReadResult:
        """See whether files and services are as wished; a host that is away changes nothing."""
        try:
            with reach.opened(props, reach.LOOK_S) as opened:
                found = hosts.drift(opened, _wish(props))
        except HomelabError as error:
            Reporter().warn(f"{props['host']}: not read: {error}")
            found = str(props.get("drift") or "")
        return ReadResult(id_, {**props, "drift": found})

    def delete(self, _id: str, props: Props) -> None:
        """Stop both; a dead host balances nothing."""
        try:
            with reach.opened(props, reach.LOOK_S) as opened:
                hosts.remove(opened)
        except UnreachableError as error:
            Reporter().warn(f"{props['host']}: its HAProxy and keepalived were not taken off: {error}")

    @staticmethod
    def _ensured(props: Props) -> str:
        report = Reporter()
        with reach.opened(props) as opened:
            for service in hosts.ensure(opened, _wish(props), report.progress):
                report.info(f"{props['host']}: {service} runs with new settings")
        return ""


def _wish(props: Props) -> hosts.Wish:
    front, sharing = props["front"], props["sharing"]
    return hosts.Wish(
        config.Front(str(front["name"]), str(front["bind"]), dict(front["backends"])),
        config.Sharing(
            vip=str(sharing["vip"]),
            router=int(sharing["router"]),
            interface="",
            address=str(sharing["address"]),
            peers=[str(peer) for peer in sharing["peers"]],
            priority=int(sharing["priority"]),
        ),
    )


class Balancer(Resource, module="balancer", name="Balancer"):
    """HAProxy and keepalived on a host."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(BalancerProvider(), name, packed(props), opts)
