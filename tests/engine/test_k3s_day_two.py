"""k3s over the years, by the real engine and command: a snapshot and all servers back from it, hands, certificates.

The tests share one lab of three servers and an agent, and go on from each other's end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from providers.deadline import Deadline
from providers.k3s import certificates, files
from providers.kubernetes.client import Kube
from tests.engine.hosts import HostsLab, plain
from tests.engine.sandbox import Run
from twin.hosts.k3s_pki import Authorities
from twin.kubernetes.kubeconfig import kubeconfig
from twin.talos.pki import issue, write_secret

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


def test_what_was_changed_by_hand_is_noted_and_repaired(lab: HostsLab) -> None:
    changed = {name: lab.file(name, files.CONFIG) for name in ("h2", "h4")}
    for file in changed.values():
        file.write_text(file.read_text() + "debug: true\n")
    report = homelab(lab, "drift", "--json")
    assert report.code == 3, report.output
    assert "host_changed" in report.output
    lab.engine("refresh", "--yes", "--skip-preview").ok()
    assert lab.unchanged().code != 0
    told = lab.up().ok().output
    for name, file in changed.items():
        assert f"{name}: {files.CONFIG} was changed" in told
        assert "debug" not in file.read_text()
    assert ready(lab) == dict.fromkeys(NAMES, True)
    lab.unchanged().ok()


def age(lab: HostsLab, days: int) -> None:
    """Have h1's certificate and the stack's kubeconfig end in so many days."""
    tls = Authorities(lab.file("h1", "/var/lib/rancher/k3s/server/tls"))
    leaf = issue(tls.pair("client-ca"), "system:admin", ["system:masters"], client=True, valid=timedelta(days=days))
    (tls.folder / "client-admin.crt").write_bytes(leaf.crt)
    write_secret(tls.folder / "client-admin.key", leaf.key)
    server = yaml.safe_load(lab.kubeconfig())["clusters"][0]["cluster"]["server"]
    old = kubeconfig(server, tls.pair("server-ca").crt, leaf).decode()
    lab.file("h1", files.KUBECONFIG).write_text(old)
    state = json.loads(lab.engine("stack", "export", "--show-secrets").ok().output)
    (cluster,) = (one for one in state["deployment"]["resources"] if one["urn"].endswith("::garage-cluster"))
    cluster["outputs"]["kubeconfig"]["plaintext"] = json.dumps(old)
    lab.sandbox.write("aged.json", json.dumps(state))
    lab.engine("stack", "import", "--file", str(lab.folder / "aged.json")).ok()


def test_a_kubeconfig_that_ends_is_renewed(lab: HostsLab) -> None:
    renews = "k3s:Cluster garage-cluster update"
    age(lab, 40)
    assert renews not in plain(lab.engine("preview").ok().output)
    age(lab, 20)
    assert renews in plain(lab.engine("preview").ok().output)
    before = starts(lab, "k3s")
    lab.up().ok()
    assert starts(lab, "k3s")[len(before) :] == ["h1"], "the others had renewed theirs"
    assert not certificates.is_ending(lab.kubeconfig())
    assert ready(lab) == dict.fromkeys(NAMES, True)
    lab.unchanged().ok()
