"""Settings to hold rules against: a lab of four nodes with pools and an application, and what is changed of them."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from policy.known import Known, KnownNode
from settings import Settings, from_values

TALOS, KUBERNETES = "v1.13.9", "v1.36.1"
EXTENSIONS = frozenset({"siderolabs/iscsi-tools", "siderolabs/util-linux-tools"})
ROLES = {"node1": "controlplane", "node2": "controlplane", "node3": "controlplane", "node4": "worker"}
SECTIONS: dict[str, Any] = {
    "cluster": {
        "endpoint": {"vip": "192.168.1.70"},
        "talos": {"version": TALOS},
        "kubernetes": {"version": KUBERNETES},
    },
    "boards": {"board1": {"address": "192.168.1.60", "password": "geheim"}},
    "nodes": {
        name: {
            "role": role, "address": f"192.168.1.7{slot}", "mac": f"02:00:00:00:00:0{slot}",
            "machine": {"board": "board1", "slot": slot}, "generation": 1,
        }
        for slot, (name, role) in enumerate(ROLES.items(), 1)
    },
    "platform": {
        "pools": ["192.168.1.200-192.168.1.250"],
        "metallb": {},
        "applications": {"web": {"image": "nginxinc/nginx-unprivileged:1.29.1", "port": 8080}},
    },
}  # fmt: skip


def lab(change: dict[str, Any] | None = None) -> Settings:
    """The lab; `change` maps a path such as `nodes/node3/generation` to another value, None takes it away."""
    sections = deepcopy(SECTIONS)
    for path, value in (change or {}).items():
        *way, last = path.split("/")
        at = sections
        for step in way:
            at = at.setdefault(step, {})
        if value is None:
            del at[last]
        else:
            at[last] = value
    return from_values({name: json.dumps(section) for name, section in sections.items()})


def known(**changes: KnownNode) -> Known:
    """The same lab as it was applied."""
    nodes = {name: KnownNode(1, TALOS, KUBERNETES, EXTENSIONS) for name in ROLES}
    return Known({**nodes, **changes}, frozenset())
