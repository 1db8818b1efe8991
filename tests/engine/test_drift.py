"""Drift on the twin: each kind brought about by hand, seen by `homelab drift`, and repaired by what it says to type."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from cli.drift import DRIFT
from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from providers.talos.client import WIPE_LABELS, ApplyMode, Mode, Talos, probe
from providers.talos.identity import stored_certificate
from providers.turingpi.client import Bmc, Endpoint
from tests.engine import volume
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

WORKER, LOST = "node4", "node3"
WEB = "/apis/apps/v1/namespaces/web/deployments/web"
MANAGER = "/apis/apps/v1/namespaces/longhorn-system/daemonsets/longhorn-manager"
APART_S = 6.0  # ten minutes of the twin's time
REPAIRABLE = frozenset({"refresh", "up"})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    yield from volume.house(tmp_path_factory.mktemp("drift"))


def drift(lab: Sandbox, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit code, and what `homelab drift --json` prints."""
    done = subprocess.run(
        lab.command("drift", "--json", *options),
        cwd=lab.folder, env=lab.environment(), capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if not done.stdout.startswith("{"):
        raise AssertionError(f"exit code {done.returncode}: {done.stdout}{done.stderr}")
    print(done.stderr)
    return done.returncode, dict(json.loads(done.stdout))


def seen(lab: Sandbox) -> set[tuple[str, str]]:
    """The kinds and names of what it found; everything must have been asked."""
    code, report = drift(lab)
    assert report["unasked"] == []
    assert code == (DRIFT if report["findings"] else 0)
    return {(finding["kind"], finding["name"]) for finding in report["findings"]}


def repaired(lab: Sandbox, *expected: tuple[str, str]) -> None:
    """What was found is what was expected; what it says to type repairs it."""
    _, report = drift(lab)
    assert {(finding["kind"], finding["name"]) for finding in report["findings"]} == set(expected)
    verbs = {line.split()[1] for finding in report["findings"] for line in finding["repair"]}
    assert verbs <= REPAIRABLE
    lab.run("refresh", "--yes").ok()
    lab.up().ok()
    assert seen(lab) == set()
    lab.preview_unchanged().ok()


def kube(lab: Sandbox) -> Kube:
    return Kube((lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8"))


def talos(lab: Sandbox, node: str) -> Talos:
    cert = stored_certificate(lab.folder / ".homelab" / "talosconfig")
    assert cert is not None
    return Talos.secure(f"{lab.prefix}.{10 + int(node.removeprefix('node'))}", cert)


def board(lab: Sandbox) -> Bmc:
    return Bmc.connect(Endpoint(f"https://{lab.prefix}.60:8443", password="opens-this-board"))


def test_nothing_drifts_by_itself(house: Sandbox) -> None:
    assert seen(house) == set()


def test_config_edited_by_hand(house: Sandbox) -> None:
    with talos(house, WORKER) as node:
        config = node.machine_config()
        by_hand = config.replace("machine:", "machine:\n  sysctls: {net.ipv4.ip_forward: '1'}", 1)
        node.apply_configuration(by_hand, ApplyMode.NO_REBOOT)
    repaired(house, ("config_changed", WORKER))


def test_powered_off_by_hand(house: Sandbox) -> None:
    with board(house) as bmc:
        bmc.set_power({4: False})
    repaired(house, ("power_off", WORKER))
    assert all(node["ready"] for node in house.status()["nodes"])


def test_a_node_deleted_by_hand(house: Sandbox) -> None:
    with kube(house) as api:
        assert api.delete_node(WORKER, Deadline(30))
    kinds = seen(house)
    assert kinds <= {("not_in_kubernetes", WORKER)}  # its kubelet may have registered it again
    house.run("refresh", "--yes").ok()
    house.up().ok()
    assert seen(house) == set()


def test_an_object_changed_by_hand(house: Sandbox) -> None:
    with kube(house) as api:
        assert api.merge(WEB, {"spec": {"replicas": 3}}, Deadline(30))
    repaired(house, ("object_changed", "Deployment/web/web"))


def test_an_object_deleted_by_hand(house: Sandbox) -> None:
    with kube(house) as api:
        assert api.remove(WEB, Deadline(30))
    repaired(house, ("object_deleted", "Deployment/web/web"))


def test_an_object_of_helms_changed_by_hand(house: Sandbox) -> None:
    with kube(house) as api:
        before = api.look(MANAGER)
        assert before is not None
        containers = before["spec"]["template"]["spec"]["containers"]
        image = containers[0]["image"]
        changed = [{**containers[0], "image": "longhornio/longhorn-manager:v0"}, *containers[1:]]
        assert api.merge(MANAGER, {"spec": {"template": {"spec": {"containers": changed}}}}, Deadline(30))
    _, report = drift(house)
    (found,) = report["findings"]
    assert (found["kind"], found["name"]) == ("object_changed", "DaemonSet/longhorn-system/longhorn-manager")
    assert found["fields"][0].endswith("image")
    assert found["repair"][0].startswith("helm -n longhorn-system get manifest longhorn | kubectl apply")
    with kube(house) as api:
        mended = [{**containers[0], "image": image}, *containers[1:]]
        api.merge(MANAGER, {"spec": {"template": {"spec": {"containers": mended}}}}, Deadline(30))
    assert seen(house) == set()


def test_helms_record_deleted_by_hand(house: Sandbox) -> None:
    with kube(house) as api:
        found = api.look("/api/v1/namespaces/longhorn-system/secrets?labelSelector=owner%3Dhelm%2Cname%3Dlonghorn")
        assert found is not None
        for item in found["items"]:
            api.remove(f"/api/v1/namespaces/longhorn-system/secrets/{item['metadata']['name']}", Deadline(30))
    repaired(house, ("release_changed", "Release/longhorn-system/longhorn"))


def test_a_node_reset_by_hand(house: Sandbox) -> None:
    with talos(house, WORKER) as node:
        node.reset(graceful=False, reboot=True, wipe_labels=WIPE_LABELS, timeout_s=60)
    at = f"{house.prefix}.14"
    Deadline(120).poll(lambda: (probe(at, timeout_s=3) is Mode.MAINTENANCE) or None, f"{at}: maintenance mode", 0.2)
    repaired(house, ("maintenance", WORKER))
    assert all(node["ready"] for node in house.status()["nodes"])


def test_a_member_removed_from_etcd_by_hand(house: Sandbox) -> None:
    with talos(house, "node1") as peer:
        (member,) = (found for found in peer.etcd_members() if found.hostname == LOST)
        peer.etcd_remove_member(member.id)
    _, report = drift(house)
    (found,) = (finding for finding in report["findings"] if finding["kind"] == "not_in_etcd")
    assert found["name"] == LOST
    assert [line.split()[1] for line in found["repair"]] == ["destroy-target", "up"]
    house.run("destroy-target", LOST, "--yes").ok()
    house.up().ok()
    assert seen(house) == set()
    assert house.status()["cluster"]["etcd"] == {"members": 3, "healthy": 3}


def test_values_are_not_told(house: Sandbox) -> None:
    """Somebody may have put a secret where none was."""
    with kube(house) as api:
        assert api.merge(WEB, {"metadata": {"labels": {"token": "hunter2"}}, "spec": {"replicas": 2}}, Deadline(30))
    _, report = drift(house)
    assert "hunter2" not in json.dumps(report)
    repaired(house, ("object_changed", "Deployment/web/web"))


# -- orphans: last, as they take a node out and back -------------------------------------------------------------

ORPHANS = {
    ("orphan_etcd_member", LOST),
    ("orphan_node", LOST),
    ("orphan_longhorn_node", LOST),
    ("orphan_slot", "board1/3"),
}


@pytest.fixture(scope="module")
def forgotten(house: Sandbox) -> str:
    """A control plane that neither the settings nor the state know any more, and that runs; gives the settings."""
    text = (house.folder / house.settings).read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    del data["config"]["homelab:nodes"][LOST]
    house.write(house.settings, yaml.safe_dump(data, sort_keys=False))
    urns = [item["urn"] for item in house.state() if item["urn"].rsplit("::", 1)[-1].split("-")[0] == LOST]
    for urn in reversed(urns):  # children first
        house.pulumi("state", "delete", urn, "--yes")
    return text


def test_orphans_are_seen_in_every_list(house: Sandbox, forgotten: str) -> None:
    _, report = drift(house)
    assert {(finding["kind"], finding["name"]) for finding in report["findings"]} >= ORPHANS
    assert all(finding["first_seen"] for finding in report["findings"] if finding["kind"].startswith("orphan_"))


def test_nothing_is_removed_at_the_first_sighting(house: Sandbox, forgotten: str) -> None:
    (house.folder / ".homelab" / house.stack / "drift.json").unlink()
    code, report = drift(house, "--remove", "--yes")
    assert (code, report["removed"]) == (DRIFT, [])
    assert len(house.status()["nodes"]) == 3
    with kube(house) as api:
        assert api.node(LOST) is not None


def test_nothing_is_removed_without_being_asked_for(house: Sandbox, forgotten: str) -> None:
    time.sleep(APART_S)
    _, report = drift(house)
    assert {(finding["kind"], finding["name"]) for finding in report["findings"]} >= ORPHANS


def test_orphans_are_removed_at_the_second_sighting_and_nothing_is_lost(house: Sandbox, forgotten: str) -> None:
    mark = len(house.events())
    _, report = drift(house, "--remove", "--yes")
    assert set(report["removed"]) == {f"{kind}/{name}" for kind, name in ORPHANS}
    status = house.status()
    assert status["cluster"]["etcd"] == {"members": 2, "healthy": 2}
    assert all(node["ready"] for node in status["nodes"])
    with kube(house) as api:
        assert api.node(LOST) is None
    with board(house) as bmc:
        assert bmc.power()[3] is False
    kinds = {event["kind"] for event in house.events()[mark:]}
    assert not {"longhorn_replica_lost", "longhorn_volume_lost", "flash_started"} & kinds


def test_the_node_comes_back_with_its_settings(house: Sandbox, forgotten: str) -> None:
    house.write(house.settings, forgotten)
    house.up().ok()
    assert all(node["ready"] for node in house.status()["nodes"])
    assert seen(house) == set()
    house.preview_unchanged().ok()
