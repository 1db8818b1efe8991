"""A cluster that is there already: what opens it is in a file, and comes out of a resource as it does in a lab."""

from __future__ import annotations

from pathlib import Path

import pulumi
from pulumi.dynamic import CreateResult, Resource

from providers.dynamic import Props, Provider


class OpenedProvider(Provider):
    inputs = ("file",)

    def create(self, props: Props) -> CreateResult:
        return CreateResult(props["file"], self.stored(props, kubeconfig=Path(props["file"]).read_text()))


class Opened(Resource, module="opened", name="Opened"):
    kubeconfig: pulumi.Output[str]

    def __init__(self, name: str) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["kubeconfig"])
        super().__init__(OpenedProvider(), name, {"file": f"{name}.kubeconfig", "kubeconfig": None}, secret)
