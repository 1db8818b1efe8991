"""A lab of a kubeadm cluster for a test: three control planes, a worker, and two hosts that balance."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from tests.engine.hosts import PORT, HostsLab
from tools import paths

VERSION = "v1.36.1"
PLANES, WORKER, BALANCERS = ("h1", "h2", "h3"), "h4", ("h5", "h6")


def needed() -> None:
    """Skip where the distribution's or the built programs are missing."""
    if shutil.which("haproxy") is None:
        pytest.skip("the package haproxy is not installed")
    if not paths.kubeadm().exists() and shutil.which("kubeadm") is None:
        pytest.skip("kubeadm is not built here: `make tools`")


@dataclass
class KubeadmLab(HostsLab):
    """h1 to h3 are control planes, h4 is a worker; h5 and h6 hold the VIP and are no nodes."""

    servers: int = 3
    agents: int = 3
    kubeadm: dict[str, Any] = field(default_factory=dict)

    @property
    def vip(self) -> str:
        """Where the API answers."""
        return f"{self.prefix}.5"

    def environment(self) -> dict[str, str]:
        """With kubeadm on PATH, for the hosts that the twin plays."""
        found = super().environment()
        return {**found, "PATH": f"{found['PATH']}:{paths.kubeadm().parent}:{os.environ['PATH']}"}

    def write_settings(self, **changed: dict[str, Any]) -> None:
        """The stack's file. The key of SSH stays where it is."""
        path = self.folder / "Pulumi.twin.yaml"
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
        ssh = before["config"].get("homelab:clusters", {}).get("garage", {}).get("ssh", {})
        made_of = {"version": VERSION, "balancer": {"hosts": list(BALANCERS)}, **self.kubeadm}
        garage = {"kubeadm": made_of, "endpoint": {"vip": self.vip}, "ssh": {**ssh, "port": PORT}}
        hosts = {name: self._host(name, changed.get(name, {})) for name in self.names}
        for name in BALANCERS:
            hosts[name] |= {"disabled": True}
        settings = {
            "homelab:cluster": {
                "endpoint": {"vip": f"{self.prefix}.250"},
                "talos": {"version": "v1.13.9"},
                "kubernetes": {"version": "v1.36.1"},
            },
            "homelab:boards": {},
            "homelab:nodes": {},
            "homelab:clusters": {"garage": garage},
            "homelab:hosts": hosts,
        }
        salt = {key: value for key, value in before.items() if key == "encryptionsalt"}
        path.write_text(yaml.safe_dump({**salt, "config": settings}), encoding="utf-8")
