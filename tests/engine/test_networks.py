"""Every network that the program installs itself makes nodes Ready on the twin, and changes nothing afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(900)]

COUNTED_S = 30.0  # the count in a DaemonSet's status follows its pods
AGENTS = {"flannel-host-gw": "kube-flannel", "cilium": "cilium", "cilium-kube-proxy-free": "cilium"}


def agents(lab: Sandbox, wanted: str) -> dict[str, int]:
    """The DaemonSets of kube-system and on how many nodes their pods are ready, once that one's are on all four."""

    def whole() -> dict[str, int] | None:
        sets = (kube.look("/apis/apps/v1/namespaces/kube-system/daemonsets") or {})["items"]
        ready = {item["metadata"]["name"]: int(item["status"]["numberReady"]) for item in sets}
        return ready if ready[wanted] == 4 else None

    with Kube((lab.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8")) as kube:
        return kube.patiently(whole, f"{wanted} ready on four nodes", Deadline(COUNTED_S))


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
        ready = agents(lab, AGENTS[network])
        assert ("kube-proxy" in ready) == (network != "cilium-kube-proxy-free")
        lab.preview_unchanged().ok()
    finally:
        lab.end()
