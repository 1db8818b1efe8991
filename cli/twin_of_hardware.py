"""The simulated hardware of a real lab's twin: the boards and modules that its settings speak of.

The format is the twin's own (`twin/lab.py`); the shipped `four.yaml` gives the device times.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cli.twin_of_settings import BOARD_PASSWORD, BOARD_PORT, FACTORY_PORT, Translation
from settings import Node, Settings

SHIPPED = Path("twin") / "labs" / "four.yaml"
DISK_BYTES = 32_000_000_000
GB = 1_000_000_000
_KEPT = ("scale", "times")


def hardware(name: str, lab: Settings, run: Translation, root: Path, before: Mapping[str, Any] | None = None) -> Any:
    """The lab file's content.

    Args:
        name: of the twin.
        lab: the real settings.
        run: how they were translated.
        root: the project's folder.
        before: another lab file whose boards, modules and versions stay: what one side of a change has and the
            other has not must be there for both.
    """
    shipped = yaml.safe_load((root / SHIPPED).read_text(encoding="utf-8"))
    factory = {**shipped["factory"], "address": run.factory, "port": FACTORY_PORT}
    made = {
        "name": name,
        **{key: shipped[key] for key in _KEPT},
        "subnet": str(run.twin_lan),
        "factory": factory,
        "talos_versions": [lab.cluster.talos.version],
        "boards": {board: _board(board, lab, run) for board in lab.boards},
    }
    return made if before is None else _joined(before, made)


def _board(name: str, lab: Settings, run: Translation) -> dict[str, Any]:
    slots = {node.slot: _module(node, lab, run) for node in lab.nodes.values() if node.board == name}
    return {
        "address": run.boards[name],
        "port": BOARD_PORT,
        "username": lab.boards[name].username,
        "password": BOARD_PASSWORD,
        "slots": dict(sorted(slots.items())),
    }


def _module(node: Node, lab: Settings, run: Translation) -> dict[str, Any]:
    longhorn = lab.platform.longhorn
    room = 2 * longhorn.minimum_disk_gb * GB if longhorn is not None else 0
    return {
        "name": f"module-{node.board}-{node.slot}",
        "mac": node.mac,
        "address": run.moved(str(node.address)),
        "module": node.module.value,
        "disk_bytes": max(DISK_BYTES, room),
    }


def _joined(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Both sides' hardware in one: where they differ about the same thing, what was there before stays."""
    boards = {**after["boards"]}
    macs = {module["mac"] for board in before["boards"].values() for module in board["slots"].values()}
    for name, board in before["boards"].items():
        later = boards.get(name, {"slots": {}})["slots"]
        more = {
            slot: module for slot, module in later.items() if slot not in board["slots"] and module["mac"] not in macs
        }
        boards[name] = {**board, "slots": {**board["slots"], **more}}
    versions = [*before["talos_versions"], *after["talos_versions"]]
    return {**after, "boards": boards, "talos_versions": list(dict.fromkeys(versions))}
