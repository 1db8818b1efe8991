"""One SD or eMMC card, written in a reader on this machine."""

from __future__ import annotations

from typing import Any

import pulumi

from providers.disk.resources import Card as Written
from settings.cards import Card as CardSettings
from settings.cards import Prepare


class Card(pulumi.ComponentResource):
    """A card, as its settings say. Neither it nor its child has a name that a node's wildcard hits."""

    def __init__(self, name: str, card: CardSettings) -> None:
        super().__init__("homelab:Card", f"card-{name}")
        self.disk = Written(f"card-{name}-disk", props(name, card), pulumi.ResourceOptions(parent=self))
        self.register_outputs({})


def props(name: str, card: CardSettings) -> dict[str, Any]:
    """What the resource is told."""
    return {
        "card": name,
        "disk": card.disk or "",
        "serial": card.serial or "",
        "min_gb": card.min_gb,
        "max_gb": card.max_gb,
        "image": card.image,
        "sha256": card.sha256 or "",
        "kind": card.kind.value,
        "generation": card.generation,
        "prepare": _prepare(name, card.prepare) if card.prepare is not None else None,
    }


def _prepare(name: str, prepare: Prepare) -> dict[str, Any]:
    network = prepare.network
    return {
        "hostname": prepare.hostname or name,
        "user": prepare.user,
        "keys": list(prepare.keys),
        "cmdline": list(prepare.cmdline),
        "read_only_root": prepare.read_only_root,
        "boot_gib": prepare.boot_gib,
        "network": {
            "interface": network.interface,
            "address": str(network.address or ""),
            "gateway": str(network.gateway or ""),
            "nameservers": [str(server) for server in network.nameservers],
            "promiscuous": network.promiscuous,
        },
    }
