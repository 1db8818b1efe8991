"""k3s over the years, by the real engine and command: a snapshot, and all servers back from it.

The tests share one lab of three servers and an agent, and go on from each other's end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from tests.engine.hosts import HostsLab
from tests.engine.sandbox import Run

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]
NAMES = ("h1", "h2", "h3", "h4")
CONFIGS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsLab]:
    """Three servers and an agent."""
    lab = HostsLab(tmp_path_factory.mktemp("years"), servers=3)
    try:
        began = time.monotonic()
        lab.prepare().up().ok()
        print(f"cold up: {time.monotonic() - began:.1f} s")
        yield lab
    finally:
        lab.end()


def homelab(lab: HostsLab, *arguments: str) -> Run:
    """The command, as its owner types it."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments, "--stack", "twin"],
        cwd=lab.folder, env={**lab.environment(), "PYTHONPATH": str(lab.folder)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    return Run(done.returncode, done.stdout + done.stderr)


def ready(lab: HostsLab) -> dict[str, bool]:
    with Kube(lab.kubeconfig()) as kube:
        return {node.name: node.ready for node in kube.nodes()}


def write(lab: HostsLab, name: str) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
    with Kube(lab.kubeconfig()) as kube:
        kube.apply(f"{CONFIGS}/{name}", body, "test")


def there(lab: HostsLab, name: str) -> bool:
    with Kube(lab.kubeconfig()) as kube:
        return kube.patiently(lambda: (kube.look(f"{CONFIGS}/{name}"),), name, Deadline(60))[0] is not None


def starts(lab: HostsLab, unit: str) -> list[str]:
    return [event["node"] for event in lab.events("service_started") if event["unit"] == unit]


def backed_up(lab: HostsLab) -> dict[str, Any]:
    return dict(json.loads(homelab(lab, "backup", "--cluster", "garage", "--json").ok().output))


def test_back_to_a_snapshot_with_all_servers(lab: HostsLab) -> None:
    write(lab, "before")
    made = backed_up(lab)
    write(lab, "after")
    agents = starts(lab, "k3s-agent")
    began = time.monotonic()
    told = homelab(lab, "restore", made["file"], "--cluster", "garage", "--yes").ok().output
    print(f"restore: {time.monotonic() - began:.1f} s")
    assert "changes since then" in told
    assert "h4: not touched" in told
    assert lab.happened("cluster_reset") == ["h1"]
    assert there(lab, "before")
    assert not there(lab, "after")
    assert ready(lab) == dict.fromkeys(NAMES, True)
    assert starts(lab, "k3s-agent") == agents
    lab.unchanged().ok()
    lab.up().ok()
    assert starts(lab, "k3s-agent") == agents
    assert not lab.events("unknown_command")


def test_the_token_is_nowhere_but_in_its_file(lab: HostsLab) -> None:
    made = backed_up(lab)
    token = lab.file("h1", "/var/lib/rancher/k3s/server/token").read_text().strip().rpartition(":")[2]
    told = homelab(lab, "backup", "--cluster", "garage")
    assert token
    assert token not in told.output
    assert token not in json.dumps(made)
    assert token not in lab.engine("stack", "export").ok().output


def test_a_cut_snapshot_is_refused_and_nothing_stops(lab: HostsLab) -> None:
    made, stops = backed_up(lab), lab.happened("service_stopped")
    cut = lab.folder / "cut.db"
    cut.write_bytes(Path(made["file"]).read_bytes()[:-1])
    refused = homelab(lab, "restore", str(cut), "--cluster", "garage", "--yes")
    assert refused.code == 1
    assert "cut short" in refused.output
    assert lab.happened("service_stopped") == stops
