"""A Longhorn that is a few lines long: it moves one replica at each look, and refuses what the real one refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.deadline import Deadline
from providers.errors import RefusedError
from providers.longhorn.scene import GROUP

GB = 10**9
Item = dict[str, Any]


def node(name: str, *, ready: bool = True, room_gb: int = 100, takes: bool = True) -> Item:
    condition = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {
        "metadata": {"name": name},
        "spec": {
            "allowScheduling": takes,
            "evictionRequested": False,
            "disks": {"d": {"allowScheduling": True, "storageReserved": 10 * GB}},
        },
        "status": {
            "conditions": condition,
            "diskStatus": {
                "d": {"conditions": condition, "storageMaximum": (room_gb + 10) * GB, "storageScheduled": 0}
            },
        },
    }


def volume(name: str, replicas: int, *, robustness: str = "healthy", state: str = "attached") -> Item:
    return {
        "metadata": {"name": name},
        "spec": {"size": str(2 * GB), "numberOfReplicas": replicas},
        "status": {
            "state": state,
            "robustness": robustness,
            "kubernetesStatus": {"namespace": "web", "pvcName": name},
        },
    }


def replica(of: str, on: str, *, healthy: bool = True) -> Item:
    spec = {"volumeName": of, "nodeID": on, "healthyAt": "2026-01-01T00:00:00Z", "failedAt": "" if healthy else "now"}
    return {"metadata": {"name": f"{of}-{on}"}, "spec": spec}


@dataclass
class Longhorn:
    """`stuck`: replicas do not move. `patches`: every change that was asked for, in order."""

    nodes: list[Item] = field(default_factory=list)
    volumes: list[Item] = field(default_factory=list)
    replicas: list[Item] = field(default_factory=list)
    installed: bool = True
    stuck: bool = False
    held: int = 0
    patches: list[Mapping[str, Any]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    def look(self, path: str) -> Mapping[str, Any] | None:
        if not self.installed:
            return None
        plural, _, name = path.removeprefix(f"{GROUP}/").partition("/")
        if plural == "settings":
            return {"value": "false"}
        if plural == "replicas" and not self.stuck:
            self._move_one()
        items: list[Item] = getattr(self, plural)
        if name:
            return next((item for item in items if item["metadata"]["name"] == name), None)
        return {"items": items}

    def merge(self, path: str, body: Mapping[str, Any], deadline: Deadline) -> bool:
        found = self.look(path)
        if found is None:
            return False
        self.patches.append(body["spec"])
        if body["spec"]["evictionRequested"] and body["spec"]["allowScheduling"]:
            raise RefusedError("need to disable scheduling on the node to request eviction")
        found["spec"].update(body["spec"])
        annotations = found["metadata"].setdefault("annotations", {})
        annotations.update({k: v for k, v in body["metadata"]["annotations"].items() if v})
        for key in [k for k, v in body["metadata"]["annotations"].items() if v is None]:
            annotations.pop(key, None)
        return True

    def remove(self, path: str, deadline: Deadline) -> bool:
        if self.held:
            self.held -= 1
            raise RefusedError("could not delete node: the manager's pod is still there")
        name = path.rpartition("/")[2]
        self.nodes = [item for item in self.nodes if item["metadata"]["name"] != name]
        return True

    def on(self, name: str) -> list[str]:
        return [item["spec"]["volumeName"] for item in self.replicas if item["spec"]["nodeID"] == name]

    def _move_one(self) -> None:
        leaving = {item["metadata"]["name"] for item in self.nodes if item["spec"]["evictionRequested"]}
        for item in self.replicas:
            if item["spec"]["nodeID"] in leaving:
                holders = {r["spec"]["nodeID"] for r in self.replicas if self._volume(r) == self._volume(item)}
                free = [n["metadata"]["name"] for n in self.nodes if n["spec"]["allowScheduling"]]
                taker = next((name for name in free if name not in holders), None)
                if taker is not None:
                    item["spec"]["nodeID"] = taker
                    return

    @staticmethod
    def _volume(item: Item) -> str:
        return str(item["spec"]["volumeName"])
