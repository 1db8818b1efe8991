"""Ordering without a recorded dependency.

A targeted destroy takes every recorded dependant with it, so nothing that belongs to the whole cluster may record a
dependency on a node, and no part of the platform one on another part. Yet the cluster can only be bootstrapped after
its control planes are configured, and Traefik gets its address from MetalLB. Pulumi takes an awaitable as an input,
and the engine registers the resource when it is known; it records dependencies of outputs only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from pulumi import CustomResource, Output, Resource

T = TypeVar("T")


def after(value: T, *resources: Resource) -> Awaitable[T]:
    """`value`, once all `resources` exist; as an input it orders, and records nothing."""

    async def wait() -> T:
        await asyncio.gather(*(_made(resource) for resource in resources))
        return value

    return wait()


def unrecorded(output: Output[T]) -> Output[T]:
    """An output's value, as unknown and as secret as it is: as an input it orders, and records nothing."""
    return Output(set(), output.future(with_unknowns=True), output.is_known(), output.is_secret())  # type: ignore[arg-type]


async def _made(resource: Resource) -> None:
    """Wait for a resource. A chart's URN is known when all of its objects are there."""
    known = resource.id if isinstance(resource, CustomResource) else resource.urn
    await known.future()
