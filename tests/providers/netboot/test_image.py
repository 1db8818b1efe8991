"""The plain Linux that pools boot: what its start script makes of the file that a machine is given."""

import subprocess
from pathlib import Path

import yaml

from providers.netboot import configs, scripts
from tests.providers.netboot.test_configs import ACCESS, TOKEN

DEFINITION = Path(__file__).parents[3] / "images/debian"
JOIN = DEFINITION / "mkosi.extra/usr/local/lib/homelab/join"


def _joined(tmp_path: Path, **more: object) -> str:
    fields = {"name": "box1", **more}
    (tmp_path / scripts.CONFIG_FILE.lstrip("/")).write_text(configs.linux(fields, ACCESS, TOKEN))
    done = subprocess.run(
        ["sh", str(JOIN)], env={"HOMELAB_ROOT": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert TOKEN.secret.encode() not in done.stdout + done.stderr
    return (tmp_path / "etc/default/kubelet").read_text()


def test_a_kubelet_starts_with_the_machines_own_token_name_and_labels(tmp_path: Path):
    labels, taints = {"example.com/disk": "fast"}, {"example.com/only": "batch:NoSchedule"}
    words = _joined(tmp_path, labels=labels, taints=taints)
    assert "--hostname-override=box1 --node-labels=example.com/disk=fast" in words
    assert "--register-with-taints=example.com/only=batch:NoSchedule" in words
    config = yaml.safe_load((tmp_path / "etc/kubernetes/bootstrap-kubelet.conf").read_text())
    assert config["users"][0]["user"]["token"] == TOKEN.text
    assert config["clusters"][0]["cluster"]["server"] == "https://192.168.1.230:6443"
    assert (tmp_path / "etc/kubernetes/pki/ca.crt").read_text() == ACCESS.ca
    kubelet = yaml.safe_load((tmp_path / "var/lib/kubelet/config.yaml").read_text())
    assert (kubelet["kind"], kubelet["clusterDNS"]) == ("KubeletConfiguration", ["10.96.0.10"])
    assert not (tmp_path / "homelab.config").exists()


def test_a_machine_that_nobody_named_joins_under_its_own_name(tmp_path: Path):
    assert "--hostname-override" not in _joined(tmp_path, name="")


def test_pods_ask_for_names_where_the_joined_cluster_answers(tmp_path: Path):
    _joined(tmp_path, dns="10.112.0.10")
    kubelet = yaml.safe_load((tmp_path / "var/lib/kubelet/config.yaml").read_text())
    assert kubelet["clusterDNS"] == ["10.112.0.10"]


def test_the_definition_finds_its_parts():
    unit = (DEFINITION / "mkosi.extra/etc/systemd/system/homelab-join.service").read_text()
    assert f"ConditionPathExists={scripts.CONFIG_FILE}" in unit
    assert "ExecStart=/usr/local/lib/homelab/join" in unit
    assert JOIN.stat().st_mode & 0o111
