"""An agent goes from one k3s cluster to another by one line and one `up`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from providers.kubernetes.client import Kube
from tests.engine.hosts import HostsLab

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]

BARN_KEY = "homelab:clusters.barn.ssh.key"


class TwoClusters(HostsLab):
    """h1 is the server of garage, h2 that of barn, and h3 the agent of one of them."""

    def prepare(self) -> TwoClusters:
        """The same, and the other cluster's key."""
        super().prepare()
        key = self._key.export_private_key().decode()
        self.engine("config", "set", "--path", BARN_KEY, "--secret", given=key).ok()
        return self

    def clusters(self, before: dict[str, Any]) -> dict[str, Any]:
        """Two of one server each, apart from each other."""
        garage = super().clusters(before)["garage"]
        del garage["endpoint"]
        ssh = before.get("homelab:clusters", {}).get("barn", {}).get("ssh", {})
        return {"garage": garage, "barn": {**garage, "ssh": {**garage["ssh"], **ssh}}}

    def nodes(self) -> dict[str, dict[str, tuple[str, bool]]]:
        """Cluster -> Node -> its uid, and whether it is Ready."""
        outputs = json.loads(self.engine("stack", "output", "--json", "--show-secrets").ok().output)
        found = {}
        for name, kubeconfig in outputs["kubeconfigs"].items():
            with Kube(kubeconfig) as kube:
                found[name] = {node.name: (node.uid, node.ready) for node in kube.nodes()}
        return found


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoClusters]:
    """The agent in garage."""
    lab = TwoClusters(tmp_path_factory.mktemp("two"), servers=2, hosts={"h2": {"cluster": "barn"}})
    try:
        lab.prepare().up().ok()
        yield lab
    finally:
        lab.end()


def test_an_agent_moves_by_one_line(lab: TwoClusters) -> None:
    before, names, boots = lab.nodes(), lab.resources(), lab.happened("boot")
    assert {name: set(nodes) for name, nodes in before.items()} == {"garage": {"h1", "h3"}, "barn": {"h2"}}
    lab.write_settings(h3={"cluster": "barn"})
    assert "h3: MOVES from garage to barn" in lab.engine("preview").ok().output
    lab.up().ok()
    after = lab.nodes()
    assert after["garage"] == {"h1": before["garage"]["h1"]}
    assert after["barn"]["h2"] == before["barn"]["h2"]
    uid, ready = after["barn"]["h3"]
    assert ready
    assert uid != before["garage"]["h3"][0]
    assert lab.resources() == names
    assert lab.happened("boot") == boots, "a move needs no reboot"
    lab.unchanged().ok()


def test_nothing_of_the_old_cluster_is_left(lab: TwoClusters) -> None:
    token = lab.file("h1", "/var/lib/rancher/k3s/server/token").read_text().strip().rpartition(":")[2]
    root = lab.file("h3", "/")
    for file in (path for path in root.rglob("*") if path.is_file()):
        assert token.encode() not in file.read_bytes(), file
    assert not lab.events("node_password_rejected")


def test_a_server_does_not_move(lab: TwoClusters) -> None:
    lab.write_settings(h1={"cluster": "barn"}, h3={"cluster": "barn"})
    refused = lab.engine("preview")
    assert refused.code != 0
    lab.write_settings(h3={"cluster": "barn"})
    lab.unchanged().ok()


def test_and_back_again(lab: TwoClusters) -> None:
    lab.write_settings()
    lab.up().ok()
    found = lab.nodes()
    assert {name: set(nodes) for name, nodes in found.items()} == {"garage": {"h1", "h3"}, "barn": {"h2"}}
    assert found["garage"]["h3"][1]
    lab.unchanged().ok()
