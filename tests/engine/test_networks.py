"""Every network that the program installs itself makes nodes Ready on the twin, and changes nothing afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from providers.kubernetes.client import Kube
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

AGENTS = {"flannel-host-gw": "kube-flannel", "cilium": "cilium", "cilium-kube-proxy-free": "cilium"}


@pytest.mark.parametrize("network", AGENTS)
def test_a_network_of_our_own(tmp_path: Path, network: str) -> None:
    lab = Sandbox(tmp_path, platform=True).prepare()
    settings = yaml.safe_load((lab.folder / lab.settings).read_text(encoding="utf-8"))
    settings["config"]["homelab:cluster"]["cni"] = network
    platform = settings["config"]["homelab:platform"]
    settings["config"]["homelab:platform"] = {"charts": platform["charts"]}
    lab.write(lab.settings, yaml.safe_dump(settings))
    try:
        lab.up().ok()
        assert all(node["ready"] for node in lab.status()["nodes"])
        with Kube((lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")) as kube:
            sets = (kube.look("/apis/apps/v1/namespaces/kube-system/daemonsets") or {})["items"]
        ready = {item["metadata"]["name"]: item["status"]["numberReady"] for item in sets}
        assert ready[AGENTS[network]] == 4
        assert ("kube-proxy" in ready) == (network != "cilium-kube-proxy-free")
        lab.preview_unchanged().ok()
    finally:
        lab.end()
