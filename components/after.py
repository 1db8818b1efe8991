"""Ordering without a recorded dependency.

A targeted destroy takes every recorded dependant with it, so nothing that belongs to the whole cluster may record a
dependency on a node. Yet the cluster can only be bootstrapped after its control planes are configured. Pulumi takes an
awaitable as an input, and the engine registers the resource when it is known; it records dependencies of outputs only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from pulumi import CustomResource

T = TypeVar("T")


def after(value: T, *resources: CustomResource) -> Awaitable[T]:
    """`value`, once all `resources` exist; as an input it orders, and records nothing."""

    async def wait() -> T:
        await asyncio.gather(*(resource.id.future() for resource in resources))
        return value

    return wait()
