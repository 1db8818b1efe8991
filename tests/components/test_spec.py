"""What the platform adds to a machine config: nothing as long as it is empty."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from components.spec import installs_network, spec
from settings import Settings, load

ROOT = Path(__file__).parents[2]


def lab(tmp_path: Path, platform: dict[str, object], cni: str = "flannel") -> Settings:
    """The lab of four nodes with another platform and network."""
    data = yaml.safe_load((ROOT / "Pulumi.twin.yaml").read_text())
    data["config"]["homelab:platform"] = platform
    data["config"]["homelab:cluster"]["cni"] = cni
    file = tmp_path / "Pulumi.lab.yaml"
    file.write_text(yaml.safe_dump(data))
    return load(file)


def of_node1(lab: Settings) -> dict[str, object]:
    return spec(lab.nodes["node1"], lab)


def test_longhorn_adds_its_data_path_and_other_parts_nothing(tmp_path):
    plain = of_node1(lab(tmp_path, {}))
    assert "longhorn_path" not in plain
    assert of_node1(lab(tmp_path, {"metrics_server": {}})) == plain
    assert of_node1(lab(tmp_path, {"longhorn": {"enabled": False, "data_path": "/var/mnt/longhorn"}})) == plain
    longhorn = of_node1(lab(tmp_path, {"longhorn": {"data_path": "/var/mnt/longhorn"}}))
    assert longhorn == plain | {"longhorn_path": "/var/mnt/longhorn"}


@pytest.mark.parametrize(
    ("cni", "ours"),
    [
        ("flannel", False),
        ("none", False),
        ("flannel-host-gw", True),
        ("cilium", True),
        ("cilium-kube-proxy-free", True),
    ],
)
def test_which_networks_the_platform_installs(tmp_path, cni, ours):
    assert installs_network(lab(tmp_path, {}, cni)) is ours
