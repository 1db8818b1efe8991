"""A node's membership of its cluster, as a Pulumi resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, lazily, packed
from providers.engine import Reporter

if TYPE_CHECKING:
    from providers.kubernetes import membership
else:
    membership = lazily("providers.kubernetes.membership")


class MemberProvider(Provider):
    """Waits until the node takes part; deleting it takes the node out without harm to the others."""

    inputs = ("node", "address", "role", "kubeconfig", "os_ca", "control_planes", "generation")

    def create(self, props: Props) -> CreateResult:
        """Wait until the Node is Ready, and a control plane votes in etcd."""
        membership.join(props, Reporter())
        return CreateResult(f"{props['node']}-member", self.stored(props, present=True))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Wait again after a change; new credentials are only stored."""
        membership.join(news, Reporter())
        return UpdateResult(self.stored(news, present=True))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Gone when the cluster does not know the Node; an API that is away changes nothing."""
        if membership.is_gone(props, Reporter()):
            return ReadResult("", {})
        return ReadResult(id_, props)

    def delete(self, _id: str, props: Props) -> None:
        """Drain the node, take it out of etcd, delete its Node: in this order, each step bounded and repeatable."""
        membership.leave(props, Reporter())


class Member(Resource, module="kubernetes", name="Member"):
    """A node's membership: created when it is Ready, deleted by leaving properly."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(MemberProvider(), name, packed(props), opts)
