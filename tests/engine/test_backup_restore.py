"""Backup and restore for real: written, snapshot, every control plane wiped, restored; refused; interrupted; foreign.

The tests share one lab and go on from each other's end.
"""

from __future__ import annotations

import json
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

import settings
from components import etcd_backup
from components.scripts import keep_backup
from providers.kubernetes.kubeconfig import Access
from providers.talos.access import contexts
from providers.talos.backup import ROLE
from providers.talos.client import Talos
from providers.talos.identity import stored_certificate
from providers.talos.secrets import SecretsBundle
from settings.parts import EtcdBackup
from tests.engine.sandbox import Run, Sandbox
from tools import paths

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

CONTROL_PLANES = ("node1", "node2", "node3")
TOUCHED = {"reset", "reboot", "snapshot_uploaded", "bootstrapped", "config_applied", "power_off", "boot_started"}
CONFIGS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"


def api(lab: Sandbox) -> httpx2.Client:
    access = Access.parse((lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8"))
    return httpx2.Client(base_url=access.server, verify=access.tls(), timeout=20, trust_env=False)


def write(lab: Sandbox, where: str, kind: str, name: str, word: str) -> None:
    field = "stringData" if kind == "Secret" else "data"
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: {"word": word}}
    with api(lab) as client:
        answer = client.post(where, json=body)
        if answer.status_code != httpx2.codes.CONFLICT:  # there already
            answer.raise_for_status()


def there(lab: Sandbox, where: str, name: str) -> dict[str, Any] | None:
    with api(lab) as client:
        answer = client.get(f"{where}/{name}")
        return None if answer.status_code == 404 else dict(answer.raise_for_status().json()["data"])


def boots(lab: Sandbox) -> dict[str, str]:
    """Each Node's boot, as Kubernetes knows it."""
    with api(lab) as client:
        items = client.get("/api/v1/nodes").raise_for_status().json()["items"]
    return {item["metadata"]["name"]: item["status"]["nodeInfo"]["bootID"] for item in items}


def ready(lab: Sandbox) -> dict[str, bool]:
    return {node["name"]: node["ready"] is True for node in lab.status()["nodes"]}


def addresses(lab: Sandbox) -> dict[str, str]:
    return {node["name"]: node["address"] for node in lab.status()["nodes"]}


def wait_for(lab: Sandbox, since: int, kind: str, count: int = 1) -> None:
    """Wait until something has happened so often since an event."""
    end = time.monotonic() + 120
    while sum(event["kind"] == kind for event in lab.events()[since:]) < count:
        assert time.monotonic() < end, f"no {kind}: {lab.said()[-3000:]}"
        time.sleep(0.01)


def unchanged(lab: Sandbox, since: int) -> bool:
    return not {event["kind"] for event in lab.events()[since:]} & TOUCHED


@pytest.fixture(scope="module")
def saved(lab: Sandbox) -> Path:
    """A snapshot that knows two objects; a third was written after it."""
    write(lab, CONFIGS, "ConfigMap", "before", "kept")
    write(lab, SECRETS, "Secret", "before", "kept too")
    path = lab.folder / "kept.db"
    lab.run("backup", str(path)).ok()
    write(lab, CONFIGS, "ConfigMap", "after", "lost")
    return path


def test_a_backup_is_verified_and_private(lab: Sandbox, saved: Path) -> None:
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    done = lab.run("backup", "--json").ok()
    made = json.loads(done.output[done.output.index("{") :])
    path = Path(made["file"])
    assert path.parent == lab.folder / ".homelab" / lab.stack / "backups"
    tool = str(paths.servers_bin() / "etcdutl")
    told = subprocess.run([tool, "snapshot", "status", str(path), "-w", "json"], capture_output=True, check=True)
    theirs = json.loads(told.stdout)
    assert (made["revision"], made["keys"]) == (theirs["revision"], theirs["totalKey"])
    assert made["size_bytes"] == path.stat().st_size == theirs["totalSize"] + 32
    print(f"backup: {made['size_bytes']} bytes, {made['keys']} keys at revision {made['revision']}")


@pytest.mark.skipif(not paths.talosctl().exists(), reason="make tools builds talosctl")
def test_the_nightly_jobs_own_commands(lab: Sandbox, tmp_path: Path) -> None:
    """What its two containers run, with the key that they get, on the control plane of the last index."""
    house = settings.load(lab.folder / lab.settings, None)
    wanted = EtcdBackup.model_validate({"nfs": {"server": "192.168.1.10", "path": "/export"}, "minimum_mb": 1})
    pod = etcd_backup.cron_job(house, wanted)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    key, fresh, share = tmp_path / "config", tmp_path / "etcd.snapshot", tmp_path / "share"
    cert = stored_certificate(lab.folder / ".homelab" / lab.stack / "talosconfig")
    assert cert is not None
    planes = {node.name: str(node.address) for node in house.control_planes}
    with Talos.secure(planes["node1"], cert) as talos:
        bundle = SecretsBundle.from_machine_config(talos.machine_config())
    key.write_text(contexts(planes, bundle.os, ROLE))
    here = {
        "/access/config": str(key), "/work/etcd.snapshot": str(fresh), "$(JOB_COMPLETION_INDEX)": "2",
        f"/backups/{house.cluster.name}": str(share),
    }  # fmt: skip
    take, keep = ([here.get(word, word) for word in pod[kind][0]["args"]] for kind in ("initContainers", "containers"))
    keep[keep.index("--minimum-mb") + 1] = "0"  # a twin's is smaller than any house's
    told = subprocess.run([str(paths.talosctl()), *take], capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    assert keep_backup.main(keep) == 0
    ((_, kept),) = keep_backup.backups(share, house.cluster.name)
    assert kept.read_bytes() == fresh.read_bytes()
    other = [str(paths.talosctl()), "--talosconfig", str(key), "services"]
    refused = subprocess.run(other, capture_output=True, text=True, timeout=60, check=False)
    assert "PermissionDenied" in refused.stderr


@pytest.mark.parametrize("harm", ["truncated", "corrupted", "not a snapshot"])
def test_a_harmed_snapshot_is_refused_before_anything_is_touched(lab: Sandbox, saved: Path, harm: str) -> None:
    data, path = bytearray(saved.read_bytes()), lab.folder / "harmed.db"
    data[len(data) // 2] ^= harm == "corrupted"
    whole = {"truncated": data[: len(data) // 3], "corrupted": data, "not a snapshot": b"x" * 4128}[harm]
    path.write_bytes(bytes(whole))
    before = len(lab.events())
    done = lab.run("restore", str(path), "--yes")
    assert done.code == 1
    assert ("cut short" if harm == "truncated" else "damaged") in done.output
    assert unchanged(lab, before)


def test_it_asks_and_says_what_is_lost(lab: Sandbox, saved: Path) -> None:
    before = len(lab.events())
    done = lab.run("restore", str(saved))
    assert done.code == 1
    assert "lost: the " in done.output
    assert "changes since then" in done.output
    assert "minutes ago" in done.output
    assert "There is nobody to ask; say --yes" in done.output
    assert unchanged(lab, before)


def restored(lab: Sandbox) -> bool:
    """The lab is as at the snapshot: both objects there, the later one gone, every node Ready."""
    assert there(lab, CONFIGS, "before") == {"word": "kept"}
    assert there(lab, SECRETS, "before") is not None
    assert there(lab, CONFIGS, "after") is None
    assert ready(lab) == dict.fromkeys(("node1", "node2", "node3", "node4"), True)
    return True


def test_a_lost_control_plane_comes_back(lab: Sandbox, saved: Path) -> None:
    """Every control plane has lost its etcd: nobody answers but Talos."""
    lost, known = boots(lab), addresses(lab)
    cert = stored_certificate(lab.folder / ".homelab" / lab.stack / "talosconfig")
    assert cert is not None

    def wipe(name: str) -> None:
        with Talos.secure(known[name], cert) as talos:
            talos.reset(graceful=False, reboot=True, wipe_labels=("EPHEMERAL",))

    before = len(lab.events())
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(wipe, CONTROL_PLANES))
    wait_for(lab, before, "api_up", 3)
    assert lab.run("backup").code == 1

    began = time.monotonic()
    done = lab.run("restore", str(saved), "--yes").ok()
    print(f"restore after a total loss: {time.monotonic() - began:.1f} s")
    assert "no API server answers" in done.output
    assert restored(lab)
    now = boots(lab)
    assert not {now[name] for name in now} & {lost[name] for name in lost}
    assert set(lab.count("flash_done").values()) == {1}
    lab.preview_unchanged().ok()
    second = lab.up().ok()
    assert "unchanged" in second.output


@pytest.mark.slow
def test_a_running_cluster_goes_back_and_what_it_was_is_kept(lab: Sandbox, saved: Path) -> None:
    write(lab, CONFIGS, "ConfigMap", "after", "lost")
    before = len(lab.events())
    done = lab.run("restore", str(saved), "--yes").ok()
    assert restored(lab)
    assert sum(event["kind"] == "reset" for event in lab.events()[before:]) == 3
    assert "what is there now is kept in" in done.output
    (kept,) = (lab.folder / ".homelab" / lab.stack / "backups").glob("before-restore-*.db")
    assert kept.stat().st_size % 512 == 32


def killed_at(lab: Sandbox, saved: Path, since: int, kind: str) -> None:
    """Begin a restore, and kill it as soon as something has happened, in this run or one before it."""
    process = lab.start("restore", str(saved), "--yes")
    wait_for(lab, since, kind)
    lab.kill(process)


@pytest.mark.slow
def test_an_interrupted_restore_is_repeated(lab: Sandbox, saved: Path) -> None:
    write(lab, CONFIGS, "ConfigMap", "after", "lost")
    start = len(lab.events())
    for kind in ("reset", "snapshot_uploaded", "bootstrapped", "api_ready"):
        killed_at(lab, saved, start, kind)
    before = len(lab.events())
    done: Run = lab.run("restore", str(saved), "--yes").ok()
    assert "was interrupted" in done.output
    assert not any(event["kind"] == "reset" for event in lab.events()[before:])
    assert restored(lab)
    assert not (lab.folder / ".homelab" / lab.stack / "restore.json").exists()
    lab.preview_unchanged().ok()


@pytest.mark.slow
def test_a_snapshot_of_another_cluster_is_refused(lab: Sandbox, saved: Path) -> None:
    """The cluster was given up and begun anew, on the same hardware under the same name: other keys."""
    lab.run("destroy", "--yes").ok()
    lab.up().ok()
    before = len(lab.events())
    done = lab.run("restore", str(saved), "--yes")
    assert done.code == 1
    assert "is another cluster's" in done.output
    assert unchanged(lab, before)
