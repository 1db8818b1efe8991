"""Longhorn is ready when a volume could be made, and Helm's records of a killed run are not in the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from providers.deadline import Deadline
from providers.longhorn import record
from providers.longhorn.ready import STORAGE_CLASS, missing
from tests.providers.longhorn.cluster import Longhorn, node


class Cluster(Longhorn):
    """Longhorn, and the StorageClass that it makes at the end."""

    has_class = True

    def look(self, path: str) -> Mapping[str, Any] | None:
        if path == STORAGE_CLASS:
            return {} if self.has_class else None
        return super().look(path)


def test_what_is_missing_is_said_in_the_order_in_which_it_comes() -> None:
    cluster = Cluster(installed=False)
    cluster.has_class = False
    assert missing(cluster, ["node1", "node2"]) == "Longhorn has not found node1, node2 yet"
    cluster.installed = True
    cluster.nodes = [node("node1"), node("node2", ready=False)]
    assert missing(cluster, ["node1", "node2"]) == "Longhorn's manager on node2 is not ready"
    cluster.nodes = [node("node1")]
    cluster.nodes[0]["spec"]["disks"] = {}
    assert missing(cluster, ["node1"]) == "no disk takes replicas yet"
    cluster.nodes = [node("node1")]
    assert missing(cluster, ["node1"]) == "the StorageClass longhorn is not there yet"
    cluster.has_class = True
    assert missing(cluster, ["node1"]) == ""


class Records:
    """Helm's Secrets in one namespace."""

    def __init__(self, **statuses: str) -> None:
        self.statuses = statuses

    def look(self, path: str) -> Mapping[str, Any]:
        assert path.startswith(
            "/api/v1/namespaces/longhorn-system/secrets?labelSelector=owner%3Dhelm%2Cname%3Dlonghorn"
        )
        return {
            "items": [
                {"metadata": {"name": name, "labels": {"status": status}}} for name, status in self.statuses.items()
            ]
        }

    def remove(self, path: str, deadline: Deadline) -> bool:
        return self.statuses.pop(path.rpartition("/")[2], None) is not None


def test_a_record_of_work_that_was_killed_goes() -> None:
    records = Records(v1="superseded", v2="deployed", v3="pending-upgrade")
    assert record.stuck(records, "longhorn-system", "longhorn") == ["v3"]
    gone = record.clear(records, "longhorn-system", "longhorn", Deadline(1), everything=False)
    assert gone == ["v3"]
    assert records.statuses == {"v1": "superseded", "v2": "deployed"}
    assert record.stuck(records, "longhorn-system", "longhorn") == []


def test_without_a_release_in_state_every_record_is_in_the_way() -> None:
    records = Records(v1="deployed", v2="pending-install")
    assert record.clear(records, "longhorn-system", "longhorn", Deadline(1), everything=True) == ["v1", "v2"]
    assert records.statuses == {}
