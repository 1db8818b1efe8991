"""Settings of a small lab on loopback addresses where nothing listens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli.observe import Lab
from cli.stacks import Stack
from settings import Settings, from_values

VIP = "127.107.2.230"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBvCgBXvMRTN1LL7xVdbiGtEsH0zKl7ZJm{}qP0pJfGBs"


def settings(control_planes: int = 1, workers: int = 1) -> Settings:
    """A lab on one board."""
    roles = ["controlplane"] * control_planes + ["worker"] * workers
    nodes: dict[str, Any] = {
        f"node{i}": {
            "role": role,
            "address": f"127.107.2.{i}",
            "mac": f"02:00:00:00:00:0{i}",
            "machine": {"board": "board1", "slot": i},
        }
        for i, role in enumerate(roles, 1)
    }
    cluster = {
        "endpoint": {"vip": VIP},
        "talos": {"version": "v1.13.9"},
        "kubernetes": {"version": "v1.36.1"},
    }
    boards = {"board1": {"address": "127.107.2.60", "password": "geheim"}}
    sections = {"cluster": cluster, "boards": boards, "nodes": nodes}
    return from_values({name: json.dumps(section) for name, section in sections.items()})


def lab(root: Path, **counts: int) -> Lab:
    """That lab before its first `up`."""
    return Lab(Stack("homelab", root), settings(**counts), certificate=None, kubeconfig=None)


def garage(root: Path, servers: int = 1) -> Lab:
    """A lab of Linux hosts alone, rpi1 and on, in a k3s cluster; before its first `up`."""
    cluster = {"endpoint": {"vip": VIP}, "talos": {"version": "v1.13.9"}, "kubernetes": {"version": "v1.36.1"}}
    further = {"k3s": {"version": "v1.36.1+k3s1"}, "endpoint": {"vip": "127.107.2.5"} if servers > 1 else {}}
    hosts = {
        f"rpi{i}": {
            "cluster": "garage",
            "role": "controlplane" if i <= servers else "worker",
            "address": f"127.107.2.{20 + i}",
            "ssh": {"host_key": HOST_KEY.format(i), "key": "geheim"},
        }
        for i in range(1, servers + 2)
    }
    sections = {"cluster": cluster, "boards": {}, "nodes": {}, "clusters": {"garage": further}, "hosts": hosts}
    known = from_values({name: json.dumps(section) for name, section in sections.items()})
    return Lab(Stack("homelab", root), known, certificate=None, kubeconfig=None)
