"""A dynamic resource that does nothing, as plainly as the SDK allows."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider


class TrivialProvider(ResourceProvider):
    """Creates at once and never differs."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Answer at once."""
        return CreateResult("trivial", props)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Say that nothing changed."""
        return DiffResult(changes=False)


class Trivial(Resource, module="floor", name="Trivial"):
    """One of as many as a lab has."""

    def __init__(self, name: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(TrivialProvider(), name, {"number": 1}, opts)
