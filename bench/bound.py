"""The lower bound of a cold `up`: the longest chain through what the twin's devices did, with nobody's waiting in it.

Everything is taken from the twin's own event log. A duration that a device or a server of the twin needed counts as it
was; the time between a device being ready and somebody asking it for the next thing counts as zero. What is left is
what a perfect program would have taken on the very same devices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Bound:
    """The chain that a perfect program would have waited for, in seconds.

    Attributes:
        total_s: from nothing to the last Ready node.
        flash_s: of it, the flash queue of the board where the chain begins.
        boot_s: two boots and the install.
        cluster_s: bootstrap, API servers, join.
        bootstrap_s: when the first bootstrap could have been.
    """

    total_s: float
    flash_s: float
    boot_s: float
    cluster_s: float
    bootstrap_s: float


@dataclass(frozen=True)
class _Node:
    """When one node could have been how far, in seconds from nothing."""

    flashed: float
    up: float


class Log:
    """A twin's events, by kind and node."""

    def __init__(self, events: Sequence[Event]) -> None:
        self._times: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._flashes: list[Event] = []
        for event in events:
            self._times[event["kind"], event.get("node", "")].append(float(event["mono"]))
            if event["kind"] == "flash_done":
                self._flashes.append(event)
        self.nodes = [str(event["node"]) for event in self._flashes]

    def at(self, kind: str, node: str, which: int = 0) -> float:
        """When something happened to a node; infinity when it never did."""
        found = self._times.get((kind, node), [])
        return found[which] if found else float("inf")

    def nodes_with(self, kind: str) -> list[str]:
        """The nodes that something happened to."""
        return [node for known, node in self._times if known == kind and node]

    def first(self, kind: str) -> float:
        """The first time that something happened to any node."""
        return min(self.at(kind, node) for node in self.nodes_with(kind))

    def took(self, begin: str, end: str, node: str) -> float:
        """From the last of one thing to the last of another."""
        return self.at(end, node, -1) - self.at(begin, node, -1)

    def queue(self) -> dict[str, float]:
        """When each node's flash could have ended: its board writes one after the other, in the order that was seen."""
        ends: dict[str, float] = {}
        used: dict[str, float] = defaultdict(float)
        for flash in self._flashes:
            node, board = str(flash["node"]), str(flash["board"])
            used[board] += self.took("flash_started", "flash_done", node)
            ends[node] = used[board]
        return ends


def bound(events: Sequence[Event], service_s: float, kubelet_s: float) -> Bound:
    """The lower bound of the run that left `events`.

    Args:
        events: of one cold `up`, in order.
        service_s: what the twin waits, in real seconds, before a booted node's services start.
        kubelet_s: and before its kubelet does.
    """
    log = Log(events)
    nodes = {node: _node(log, node, flashed) for node, flashed in log.queue().items()}
    leading = log.nodes_with("etcd_started")
    begun = max(nodes[node].up for node in leading) + service_s
    etcd = {node: begun + log.at("etcd_started", node) - log.first("bootstrapped") for node in leading}
    api = min(etcd[node] + log.took("etcd_started", "api_ready", node) for node in leading)
    ready = {node: _ready(log, node, nodes[node], api, service_s + kubelet_s) for node in nodes}
    total = max(*ready.values(), *etcd.values())
    last = max(ready, key=lambda node: ready[node])
    if nodes[last].up + service_s + kubelet_s < api:  # it had to wait for the API, so the chain came from elsewhere
        last = max(leading, key=lambda node: nodes[node].up)
    flash, boot = nodes[last].flashed, nodes[last].up - nodes[last].flashed
    return Bound(total, flash, boot, total - flash - boot, begun)


def _node(log: Log, node: str, flashed: float) -> _Node:
    first_boot = log.at("maintenance", node) - log.at("boot_started", node)
    installed = log.at("api_up", node) - log.at("config_applied", node)  # install and the second boot
    return _Node(flashed, flashed + first_boot + installed)


def _ready(log: Log, node: str, own: _Node, api: float, kubelet_s: float) -> float:
    """The kubelet needs its node and an API server, and then as long as it was seen to need."""
    seen = max(log.at("api_up", node) + kubelet_s, log.first("api_ready"))
    return max(own.up + kubelet_s, api) + log.at("node_ready", node) - seen
