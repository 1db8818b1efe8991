"""What all booted systems of one lab know of each other: the LAN, the discovery service, the shared addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twin.lab import Lab
    from twin.talos.os import Os
    from twin.talos.vip import Claim


@dataclass
class Lan:
    """All systems that run in a lab, by address."""

    systems: dict[str, Os] = field(default_factory=dict)
    claims: dict[str, Claim] = field(default_factory=dict)
    actors: int = 0
    listening: set[str] = field(default_factory=set)  # machines whose faults have a handler

    def at(self, address: str) -> Os | None:
        """The system that answers at an address."""
        return self.systems.get(address)

    def peers(self, system: Os) -> Iterator[Os]:
        """Other systems of the same cluster, as the discovery service shows them: same cluster id and secret."""
        if system.config is None:
            return
        for other in list(self.systems.values()):
            if other is not system and other.config is not None and other.config.identity == system.config.identity:
                yield other

    def control_planes(self, system: Os) -> Iterator[Os]:
        """The control planes of a system's cluster, itself included."""
        own = system.config
        for other in list(self.systems.values()):
            config = other.config
            if own and config and config.control_plane and config.identity == own.identity:
                yield other


def lan(lab: Lab) -> Lan:
    """The one of a lab."""
    found: Lan = lab.registry.setdefault("talos", Lan())
    return found
