"""From what the settings say of a host to an open connection, its address looked for where only its MAC is known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from providers import pace
from providers.ssh import neighbours
from providers.ssh.client import Host, Target, connect

CONNECT_S = 180.0  # a host that boots
LOOK_S = 20.0  # a host that may be off, and is only asked what it knows


def target(props: Mapping[str, Any]) -> Target:
    """Where a host is. Raises UnreachableError where nobody in the LAN has its MAC."""
    address = str(props.get("address") or "")
    if not address:
        address = neighbours.find(str(props["host"]), str(props["mac"]), str(props["subnet"]))
    return Target(
        name=str(props["host"]),
        address=address,
        host_key=str(props["host_key"]),
        key=str(props["key"]),
        user=str(props["user"]),
        port=int(props["port"]),
    )


@contextlib.contextmanager
def opened(props: Mapping[str, Any], timeout_s: float = CONNECT_S) -> Iterator[Host]:
    """A connection to the host of a resource. Raises as `connect`."""
    with connect(target(props), pace.limit(timeout_s)) as host:
        yield host
