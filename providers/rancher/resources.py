"""A cluster's registration with Rancher, as a Pulumi resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pulumi
from pulumi.dynamic import CreateResult, ReadResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, lazily, packed
from providers.engine import Reporter

if TYPE_CHECKING:
    from providers.rancher import registration
else:
    registration = lazily("providers.rancher.registration")


class RegistrationProvider(Provider):
    """Registers the cluster; deleting it takes the cluster out of Rancher again."""

    inputs = ("cluster", "name", "url", "token", "ca", "description", "kubeconfig")
    memos = ("ready",)

    def create(self, props: Props) -> CreateResult:
        """Register it and wait for its agent; one that is registered already is found again."""
        id_, paths = registration.ensure(_wish(props), Reporter())
        return CreateResult(f"{props['cluster']}-rancher", self.stored(props, rancher_id=id_, objects=paths))

    def update(self, _id: str, olds: Props, news: Props) -> UpdateResult:
        """Move it where its server or its name changed; else see that all is there."""
        if (olds["url"], olds["name"]) != (news["url"], news["name"]):
            self.delete(_id, olds)
        id_, paths = registration.ensure(_wish(news), Reporter())
        return UpdateResult(self.stored(news, rancher_id=id_, objects=paths))

    def read(self, id_: str, props: Props) -> ReadResult:
        """Gone when Rancher does not know it; a server that is away changes nothing."""
        gone = registration.is_gone(_wish(props), str(props["rancher_id"]), Reporter())
        return ReadResult("", {}) if gone else ReadResult(id_, props)

    def delete(self, _id: str, props: Props) -> None:
        """Take it out there, and the agent here."""
        paths = [str(path) for path in props.get("objects") or ()]
        registration.end(_wish(props), str(props["rancher_id"]), paths, Reporter())


def _wish(props: Props) -> registration.Wish:
    return registration.Wish(
        name=str(props["name"]),
        url=str(props["url"]),
        token=str(props["token"]),
        kubeconfig=str(props["kubeconfig"]),
        ca=str(props.get("ca") or ""),
        description=str(props.get("description") or ""),
    )


class Registration(Resource, module="rancher", name="Registration"):
    """A cluster's place in Rancher."""

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(RegistrationProvider(), name, packed(props), opts)
