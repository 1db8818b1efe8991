"""Two labs for all modules: one that came up through every fault that passes, one of old boards with mistakes in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.engine.sandbox import Run
from tests.faults.house import BOARD, House

# What goes wrong while four modules become a cluster. Each flash of one module is tried twice.
ON_THE_WAY: list[dict[str, Any]] = [
    {"name": "flash-stale-done", "board": BOARD, "params": {"polls": 3}},
    {"name": "flash-hijack", "node": "m1", "params": {"after_bytes": 500_000}},
    {"name": "flash-send-timeout", "node": "m2"},
    {"name": "usb-boot-fails", "node": "m3"},
    {"name": "bmc-oom", "node": "m4", "params": {"after_bytes": 500_000, "for_s": 100}},
    {"name": "bmc-tmp-full", "board": BOARD, "times": 99},
    {"name": "disk-renamed", "node": "m4"},
    {"name": "apply-lost", "node": "m2"},
    {"name": "bootstrap-not-yet", "node": "m1", "times": 2},
    {"name": "bootstrap-lost", "node": "m1"},
    {"name": "api-error", "node": "m1", "params": {"type": "EtcdMemberList"}, "times": 2},
    {"name": "etcd-slow", "node": "m2", "params": {"for_s": 200}},
]


@dataclass
class CameUp:
    """A lab that is up, and the run that brought it there."""

    lab: House
    run: Run


@pytest.fixture(scope="session")
def came_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CameUp]:
    """Four nodes on one board, through all of `ON_THE_WAY` in one `up`."""
    lab = House(tmp_path_factory.mktemp("rough"))
    lab.prepare()
    lab.change_lab(lambda spec: spec.update(faults=ON_THE_WAY))
    lab.change_node("node4", install={"selector": {"size": ">= 16GB"}})
    try:
        yield CameUp(lab, lab.up())
    finally:
        lab.end()


@pytest.fixture
def lab(came_up: CameUp) -> Iterator[House]:
    """The same lab with no fault armed; a test leaves it converged, or the next one begins with an `up`."""
    lab = came_up.lab
    lab.clear()
    if not all(lab.ready().values()):
        lab.up().ok()
    yield lab
    lab.clear()


@dataclass
class Mistaken:
    """What three runs on a lab of old boards came to."""

    lab: House
    locked_out: Run
    bad_logins: int
    no_vip: Run
    mended: Run


def _old_boards(spec: dict[str, Any]) -> None:
    new = spec["boards"][BOARD]
    slots = new["slots"]
    old = {**new, "address": new["address"].replace(".60", ".61"), "firmware": "v1.1.0", "slots": {1: slots[2]}}
    spec["boards"] = {BOARD: {**new, "firmware": "v2.0.5", "slots": {1: slots[1]}}, "board2": old}
    password = {"name": "bmc-password", "at": "twin_up", "params": {"password": "turing"}}
    spec["faults"] = [password]


def _two_nodes(config: dict[str, Any]) -> None:
    boards, nodes = config["homelab:boards"], config["homelab:nodes"]
    plain = f"http://{boards[BOARD]['address'].replace('.60', '.61')}"
    boards["board2"] = {"address": plain, "password": boards[BOARD]["password"]}
    worker = {**nodes["node2"], "role": "worker", "machine": {"board": "board2", "slot": 1}}
    config["homelab:nodes"] = {"node1": {**nodes["node1"], "mac": "02:00:00:0a:00:99"}, "node2": worker}


@pytest.fixture(scope="session")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mistaken]:
    """A control plane on firmware 2.0 whose password was reset and whose MAC is wrong, a worker on firmware 1.1."""
    lab = House(tmp_path_factory.mktemp("old"))
    lab.prepare()
    spec_file = lab.folder / "twin/labs/four.yaml"
    lab.change_lab(_old_boards)
    lab.change_settings(_two_nodes)
    password = spec_file.read_text(encoding="utf-8").split("password: ")[1].split()[0]
    try:
        locked_out = lab.up()
        bad_logins = len(lab.events("bad_login"))
        lab.fault("bmc-password", board=BOARD, password=password)
        no_vip = lab.up()
        lab.change_node("node1", mac="02:00:00:0a:00:01")
        yield Mistaken(lab, locked_out, bad_logins, no_vip, lab.up())
    finally:
        lab.end()
