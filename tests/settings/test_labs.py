"""A twin's stack and its simulated hardware are written apart from each other, and must speak of the same machines."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from settings import load

_ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(("stack", "lab"), [("twin", "four"), ("sixteen", "sixteen")])
def test_the_stack_describes_the_simulated_hardware(stack: str, lab: str):
    hardware = yaml.safe_load((_ROOT / f"twin/labs/{lab}.yaml").read_text())
    settings = load(_ROOT / f"Pulumi.{stack}.yaml")
    boards = {name: (urlsplit(board.url).hostname, urlsplit(board.url).port) for name, board in settings.boards.items()}
    nodes = {
        (node.board, node.slot): (str(node.address), node.mac, node.module.value) for node in settings.nodes.values()
    }
    assert boards == {name: (board["address"], board["port"]) for name, board in hardware["boards"].items()}
    assert nodes == _modules(hardware)
    factory = hardware["factory"]
    assert settings.cluster.talos.factory == f"http://{factory['address']}:{factory['port']}"
    assert str(settings.cluster.network.subnet) == hardware["subnet"]
    assert settings.cluster.talos.version in hardware["talos_versions"]


def _modules(hardware: dict[str, Any]) -> dict[tuple[str, int], tuple[str, str, str]]:
    return {
        (name, slot): (module["address"], module["mac"], module["module"])
        for name, board in hardware["boards"].items()
        for slot, module in board["slots"].items()
    }
