"""Longhorn's values, what is looked at before it, and what comes after."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pulumi
import pytest
import yaml

from components.longhorn import hosts, recurring, replicas, values
from providers.longhorn import record
from settings import Settings
from settings.parts import Longhorn, Snapshots
from tests.components.house import HOOKS, Made, build, lab, of_kind


@pytest.fixture(scope="module")
def made() -> Made:
    return build(lab())


def longhorn(**given: Any) -> Longhorn:
    return Longhorn.model_validate(given)


def single() -> Settings:
    """A lab that runs pods on one node alone."""
    return lab(schedule_on_control_planes=False)


def test_a_volume_has_three_replicas_or_as_many_as_there_are_nodes() -> None:
    assert len(hosts(lab())) == 4
    assert replicas(lab(), longhorn()) == 3
    assert hosts(single()) == ["node4"]
    assert replicas(single(), longhorn()) == 1
    assert replicas(lab(), longhorn(replicas=2)) == 2


def test_small_labs_run_one_of_each_csi_pod() -> None:
    assert values(lab(), longhorn())["csi"] == {}
    assert set(values(single(), longhorn())["csi"].values()) == {1}


def test_what_makes_it_removable_and_quiet_is_set(made: Made) -> None:
    found = made["longhorn-release"].inputs["values"]
    assert found["defaultSettings"]["deletingConfirmationFlag"] is True
    assert found["defaultSettings"]["upgradeChecker"] is False
    assert found["defaultSettings"]["allowCollectingLonghornUsageMetrics"] is False
    assert found["persistence"] == {"defaultClass": True, "defaultClassReplicaCount": 3}
    assert found["defaultBackupStore"] == {"backupTarget": "nfs://192.168.1.10:/export/longhorn"}


def test_the_owners_values_come_last() -> None:
    made = build(lab({"longhorn": {"values": {"longhornUI": {"replicas": 2}}, "data_path": "/var/mnt/longhorn"}}))
    found = made["longhorn-release"].inputs["values"]
    assert found["longhornUI"] == {"replicas": 2}
    assert found["defaultSettings"]["defaultDataPath"] == "/var/mnt/longhorn"


def test_every_node_that_volumes_may_be_on_is_looked_at_first(made: Made) -> None:
    asked = made["longhorn-preconditions"].inputs["settings"]
    asked = asked.get("value", asked)
    assert asked["nodes"] == {f"node{number}": f"192.168.1.{10 + number}" for number in (1, 2, 3, 4)}
    assert (asked["data_path"], asked["minimum_disk_gb"]) == ("/var/lib/longhorn", 10)


def test_its_pods_may_use_the_host(made: Made) -> None:
    labels = of_kind(made, "Namespace")["/longhorn-system"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"


def test_its_page_asks_for_a_password(made: Made) -> None:
    ingress = of_kind(made, "Ingress")["longhorn-system/longhorn"]
    assert ingress["metadata"]["annotations"] == {
        "traefik.ingress.kubernetes.io/router.middlewares": "longhorn-system-longhorn-login@kubernetescrd"
    }
    assert ingress["spec"]["rules"][0]["host"] == "longhorn.local"
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    assert path["backend"]["service"] == {"name": "longhorn-frontend", "port": {"number": 80}}


def test_snapshots_recur_for_every_volume(made: Made) -> None:
    assert of_kind(made, "RecurringJob")["longhorn-system/snapshot"]["spec"]["retain"] == 3
    found = recurring(Snapshots.model_validate({"schedule": "0 4 * * *"}))["spec"]
    assert (found["cron"], found["groups"], found["task"]) == ("0 4 * * *", ["default"], "snapshot")
    assert of_kind(build(lab({"longhorn": {}})), "RecurringJob") == {}


def test_prometheus_is_let_in_where_policies_are_kept_to(made: Made) -> None:
    (rule,) = of_kind(made, "NetworkPolicy")["longhorn-system/metrics"]["spec"]["ingress"]
    assert rule["ports"] == [{"port": 9500, "protocol": "TCP"}]
    assert of_kind(build(lab({"monitoring": None})), "NetworkPolicy") == {}


def test_values_are_plain_yaml() -> None:
    assert yaml.safe_load(yaml.safe_dump(values(lab(), longhorn()))) == values(lab(), longhorn())


def test_helms_records_are_cleared_before_it_installs_and_before_it_upgrades(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them before an install, which the engine's state knows nothing of; else those of a killed run alone."""
    asked: list[tuple[str, str, bool]] = []

    def unblock(_kubeconfig: str, namespace: str, release: str, *, everything: bool) -> list[str]:
        asked.append((namespace, release, everything))
        return []

    monkeypatch.setattr(record, "unblock", unblock)
    HOOKS.taken.clear()
    build(lab())
    loop = asyncio.new_event_loop()
    for hook in HOOKS.taken:
        loop.run_until_complete(cast(Any, hook)(cast(pulumi.ResourceHookArgs, None)))
    loop.close()
    moments = [f"kubernetes:helm.sh/v3:Release_longhorn-release_before_{step}_0" for step in ("create", "update")]
    assert [hook.name for hook in HOOKS.taken] == moments
    assert asked == [("longhorn-system", "longhorn", True), ("longhorn-system", "longhorn", False)]
