"""k3s on Linux hosts, by the real engine: from nothing, unchanged, a host out and back, dead, and a killed run."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from providers.kubernetes.client import Kube
from tests.engine.hosts import HostsLab

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostsLab]:
    """One server, one agent; nothing on them."""
    lab = HostsLab(tmp_path_factory.mktemp("hosts"))
    try:
        yield lab.prepare()
    finally:
        lab.end()


@pytest.fixture(scope="module")
def lab(cold: HostsLab) -> HostsLab:
    """The same, converged."""
    cold.up().ok()
    return cold


def ready(lab: HostsLab) -> dict[str, bool]:
    with Kube(lab.kubeconfig()) as kube:
        return {node.name: node.ready for node in kube.nodes()}


def test_from_nothing_to_a_server_and_an_agent(cold: HostsLab) -> None:
    began = time.monotonic()
    cold.up().ok()
    print(f"cold up: {time.monotonic() - began:.1f} s")
    assert ready(cold) == {"h1": True, "h2": True}
    assert not cold.events("unknown_command")


def test_the_second_up_changes_nothing(lab: HostsLab) -> None:
    boots, downloads = lab.happened("boot"), lab.happened("download")
    lab.unchanged().ok()
    lab.up().ok()
    assert (lab.happened("boot"), lab.happened("download")) == (boots, downloads)


def test_no_secret_is_in_the_state_in_plain(lab: HostsLab) -> None:
    exported = lab.engine("stack", "export").ok().output
    token = lab.file("h1", "/etc/rancher/k3s/token").read_text().strip()
    assert token
    assert token not in exported
    assert "PRIVATE KEY" not in exported


def test_the_agents_token_was_for_this_join_only(lab: HostsLab) -> None:
    with Kube(lab.kubeconfig()) as kube:
        secrets = (kube.look("/api/v1/namespaces/kube-system/secrets") or {})["items"]
    tokens = [item for item in secrets if item.get("type") == "bootstrap.kubernetes.io/token"]
    assert all("expiration" in item["data"] for item in tokens)
    assert "::server:" not in lab.file("h2", "/etc/rancher/k3s/token").read_text()


def test_the_only_server_is_not_taken_out(lab: HostsLab) -> None:
    refused = lab.take_out("h1")
    assert refused.code != 0
    assert "h1 is the last control plane" in refused.output
    assert ready(lab)["h1"]


def test_an_agent_out_and_back(lab: HostsLab) -> None:
    before = lab.resources()
    lab.take_out("h2").ok()
    assert before - lab.resources() == {"h2", "h2-prepared", "h2-k3s", "h2-member"}
    assert ready(lab) == {"h1": True}
    assert not lab.file("h2", "/var/lib/rancher/k3s").exists()
    assert not lab.file("h2", "/etc/rancher/node").exists()
    lab.up().ok()
    assert ready(lab) == {"h1": True, "h2": True}
    assert lab.resources() == before
    lab.unchanged().ok()


@pytest.mark.slow
def test_a_dead_agent_is_let_go_and_comes_back_on_a_new_card(lab: HostsLab) -> None:
    lab.twin("wipe", "h2")  # it has no power, and no card any more
    lab.take_out("h2").ok()
    assert ready(lab) == {"h1": True}
    lab.twin("power", "h2")
    lab.up().ok()
    assert ready(lab) == {"h1": True, "h2": True}
    assert not lab.events("node_password_rejected")


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [4.0, 12.0])
def test_a_killed_run_is_repeated_by_running_it(lab: HostsLab, after_s: float) -> None:
    lab.take_out("h2").ok()
    run = lab.begin()
    time.sleep(after_s)
    lab.kill(run)
    lab.up().ok()
    assert ready(lab) == {"h1": True, "h2": True}
    lab.unchanged().ok()
