"""The nightly backup: what its pods run, as they run it, and what its objects say."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib import request
from urllib.error import HTTPError

import pytest

import settings
from components import etcd_backup
from components.scripts import backup_metrics, keep_backup
from components.scripts.backup_metrics import Shelf
from components.scripts.keep_backup import Rules
from providers.errors import ProtocolError, UserError
from providers.talos import snapshot

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "tests" / "providers" / "talos" / "snapshots" / "small.db"
NOW = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)
RULES = Rules(keep=3, max_age=timedelta(days=10), minimum_bytes=1000)
HOST = "127.121.2.1"


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    path = tmp_path / "fresh.db"
    path.write_bytes(SNAPSHOT.read_bytes())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "share" / "home"


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_snapshot_is_kept_under_a_name_that_says_when(fresh: Path, folder: Path) -> None:
    path = keep_backup.keep(fresh, folder, "home", RULES, NOW)
    assert path == folder / "etcd-home-20260301T033000Z.db"
    assert snapshot.read(path).sha256 == snapshot.read(fresh).sha256
    noted = json.loads(keep_backup.note(path).read_text())
    assert (noted["revision"], noted["keys"]) == (snapshot.read(fresh).revision, snapshot.read(fresh).keys)
    assert path.stat().st_mode & 0o777 == 0o600
    assert kept(folder) == ["etcd-home-20260301T033000Z.db", "etcd-home-20260301T033000Z.json"]


@pytest.mark.parametrize("harm", ["truncated", "corrupted", "too small"])
def test_a_bad_snapshot_leaves_what_is_there(fresh: Path, folder: Path, harm: str) -> None:
    keep_backup.keep(fresh, folder, "home", RULES, NOW - timedelta(days=30))
    before, data = kept(folder), bytearray(fresh.read_bytes())
    data[9000] ^= harm == "corrupted"
    fresh.write_bytes(data[:5000] if harm == "truncated" else data)
    rules = Rules(1, timedelta(days=1), 10**6 if harm == "too small" else 0)
    with pytest.raises(ProtocolError):
        keep_backup.keep(fresh, folder, "home", rules, NOW)
    assert kept(folder) == before


def test_old_ones_go_but_the_newest_stay(fresh: Path, folder: Path) -> None:
    for days in (40, 30, 20, 9, 8, 7, 6):
        keep_backup.keep(fresh, folder, "home", Rules(99, timedelta(days=99), 0), NOW - timedelta(days=days))
    keep_backup.keep(fresh, folder, "home", RULES, NOW)
    ages = [(NOW - at).days for at, _ in keep_backup.backups(folder, "home")]
    assert ages == [9, 8, 7, 6, 0]
    assert len(kept(folder)) == 2 * len(ages)


def test_when_backups_stopped_long_ago_the_last_ones_stay(fresh: Path, folder: Path) -> None:
    for days in (400, 390, 380, 370):
        keep_backup.keep(fresh, folder, "home", Rules(99, timedelta(days=9999), 0), NOW - timedelta(days=days))
    keep_backup.keep(fresh, folder, "home", RULES, NOW)
    assert [(NOW - at).days for at, _ in keep_backup.backups(folder, "home")] == [380, 370, 0]


def test_what_is_somebody_elses_is_left_alone(fresh: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    others = ["etcd-home2-20200101T000000Z.db", "etcd-home-20200101.db", "notes.txt", ".etcd-home-x.part"]
    for name in others:
        (folder / name).write_text("")
    old = NOW.timestamp() - 3 * 86400
    os.utime(folder / ".etcd-home-x.part", (old, old))
    keep_backup.keep(fresh, folder, "home", Rules(1, timedelta(0), 0), NOW)
    assert set(others[:3]) < set(kept(folder))
    assert ".etcd-home-x.part" not in kept(folder)


def numbers(text: str) -> dict[str, float]:
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return {name.removeprefix("homelab_etcd_backup_"): float(value) for name, value in lines}


def test_metrics_are_of_what_is_there(fresh: Path, folder: Path) -> None:
    shelf, found = Shelf(folder, "home", 1_000_000), snapshot.read(fresh)
    assert numbers(backup_metrics.metrics(shelf)) == {"count": 0, "minimum_bytes": 1e6}
    keep_backup.keep(fresh, folder, "home", RULES, NOW - timedelta(days=1))
    path = keep_backup.keep(fresh, folder, "home", RULES, NOW)
    assert numbers(backup_metrics.metrics(shelf)) == {
        "count": 2, "minimum_bytes": 1e6, "last_success_timestamp_seconds": NOW.timestamp(),
        "last_size_bytes": found.size_bytes, "last_revision": found.revision, "last_keys": found.keys,
    }  # fmt: skip
    keep_backup.note(path).unlink()
    path.unlink()  # somebody tidied up: the one before is the newest again
    then = numbers(backup_metrics.metrics(shelf))["last_success_timestamp_seconds"]
    assert then == (NOW - timedelta(days=1)).timestamp()


@pytest.fixture
def served(fresh: Path, folder: Path) -> Iterator[str]:
    keep_backup.keep(fresh, folder, "home", RULES, NOW)
    server = backup_metrics.server(Shelf(folder, "home", 0), HOST, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://{HOST}:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_metrics_are_served(served: str) -> None:
    with request.urlopen(f"{served}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert numbers(answer.read().decode())["count"] == 1
    with request.urlopen(f"{served}/healthz", timeout=5) as answer:
        assert answer.status == 200
    with pytest.raises(HTTPError, match="404") as error:
        request.urlopen(f"{served}/etc/passwd", timeout=5)
    error.value.close()


# -- the objects ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> settings.Settings:
    return settings.load(ROOT / "Pulumi.twin.yaml", None)


@pytest.fixture
def wanted() -> Any:
    return settings.parts.EtcdBackup.model_validate({"nfs": {"server": "192.168.1.10", "path": "/export/backups"}})


def job(lab: settings.Settings, wanted: Any) -> dict[str, Any]:
    spec: dict[str, Any] = etcd_backup.cron_job(lab, wanted)["spec"]["jobTemplate"]["spec"]
    return spec


def test_each_control_plane_is_asked_until_one_answers(lab: settings.Settings, wanted: Any) -> None:
    spec = job(lab, wanted)
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", len(lab.control_planes), 1)
    assert spec["successPolicy"] == {"rules": [{"succeededCount": 1}]}
    (take,) = spec["template"]["spec"]["initContainers"]
    assert take["args"][take["args"].index("--context") + 1] == "$(JOB_COMPLETION_INDEX)"
    assert take["image"] == f"ghcr.io/siderolabs/talosctl:{lab.cluster.talos.version}"


def test_a_kubernetes_without_such_jobs_is_refused(lab: settings.Settings) -> None:
    def at(version: str) -> settings.Settings:
        kubernetes = lab.cluster.kubernetes.model_copy(update={"version": version})
        return lab.model_copy(update={"cluster": lab.cluster.model_copy(update={"kubernetes": kubernetes})})

    etcd_backup.require(at("v1.31.0"))
    with pytest.raises(UserError, match=r"v1\.30\.9 is too old for platform\.etcd_backup; take 1\.31 or newer"):
        etcd_backup.require(at("v1.30.9"))


def test_the_pods_are_nobodys_and_say_what_they_need(lab: settings.Settings, wanted: Any) -> None:
    pods = [job(lab, wanted)["template"]["spec"], etcd_backup.metrics(lab, wanted)["spec"]["template"]["spec"]]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "readinessProbe" in pods[1]["containers"][0]
    assert [volume["name"] for volume in pods[1]["volumes"]] == ["program", "backups"]  # it has no key to the nodes


def test_what_the_pod_mounts_runs_there_by_itself(
    lab: settings.Settings, wanted: Any, fresh: Path, tmp_path: Path
) -> None:
    """The files of the ConfigMap alone, under the job's own command, with nothing of ours or of others beside them."""
    program = tmp_path / "program"
    data = etcd_backup._program()["data"]
    (volume,) = [v for v in job(lab, wanted)["template"]["spec"]["volumes"] if v["name"] == "program"]
    for item in volume["configMap"]["items"]:
        path = program / item["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data[item["key"]])
    (container,) = job(lab, wanted)["template"]["spec"]["containers"]
    share = tmp_path / "share"
    where = {"/work/etcd.snapshot": str(fresh), f"/backups/{lab.cluster.name}": str(share), "1": "0"}
    arguments = [where.get(word, word) for word in container["args"]]
    command = [sys.executable, "-S", *container["command"][1:], *arguments]  # -S: without the packages installed here
    environment = {"PYTHONPATH": str(program)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(keep_backup.backups(share, lab.cluster.name)) == 1


def test_the_whole_program_fits_a_configmap() -> None:
    assert sum(map(len, etcd_backup._program()["data"].values())) < 100_000


def test_the_example_is_a_snapshot_that_etcds_tool_made() -> None:
    data = SNAPSHOT.read_bytes()
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    assert snapshot.read(SNAPSHOT).keys == 1
