"""What a lab has now, by the stack's state: the part that rules about changes need.

The wire is the engine's deployment document (`pulumi stack export`); no secret of it is opened or needed.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.deployment import inputs, parts
from providers.errors import HomelabError

EXPORT_S = 60.0
FLASH = "pulumi-python:dynamic/turingpi:Flash"
MACHINE = "pulumi-python:dynamic/talos:Machine"
CLAIM = "kubernetes:core/v1:PersistentVolumeClaim"
LONGHORN = "longhorn"  # its removal is the end of all volumes on it


@dataclass(frozen=True)
class KnownNode:
    """A node as it was last applied. A version is "", and extensions are None, where the state does not say."""

    generation: int = 0
    talos: str = ""
    kubernetes: str = ""
    extensions: frozenset[str] | None = None


@dataclass(frozen=True)
class Known:
    """All of it.

    Attributes:
        stores: parts and applications that have volumes, which go with them.
    """

    nodes: Mapping[str, KnownNode] = field(default_factory=dict)
    stores: frozenset[str] = frozenset()


def read(resources: Iterable[Mapping[str, Any]]) -> Known:
    """What a deployment's resources say."""
    every = [item for item in resources if not item.get("delete")]
    inside = parts(every)
    generations = dict(_generation(inputs(item)) for item in every if item["type"] == FLASH)
    machines = [inputs(item) for item in every if item["type"] == MACHINE]
    claimed = {inside[item["urn"]] for item in every if item["type"] == CLAIM}
    longhorn = {name for name in inside.values() if name == LONGHORN}
    nodes = {str(props["node"]): _node(props, generations) for props in machines}
    only_flashed = {name: KnownNode(number) for name, number in generations.items() if name not in nodes}
    return Known({**only_flashed, **nodes}, frozenset(claimed | longhorn))


def ask(stack: str) -> Known:
    """What the state of the stack that this program runs for says. The engine is on the program's PATH.

    Raises:
        HomelabError: it can't be had.
    """
    command = ["pulumi", "stack", "export", "--stack", stack, "--non-interactive"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=EXPORT_S, check=True)
        return read((json.loads(done.stdout).get("deployment") or {}).get("resources") or ())
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines() or ["it gave no reason"]
        raise HomelabError(f"pulumi stack export: {said[-1].removeprefix('error: ')}") from None
    except (OSError, subprocess.TimeoutExpired, ValueError) as error:
        raise HomelabError(f"pulumi stack export: {error}") from None


def _generation(props: Mapping[str, Any]) -> tuple[str, int]:
    return str(props["node"]), int(props.get("generation") or 0)


def _node(props: Mapping[str, Any], generations: Mapping[str, int]) -> KnownNode:
    spec = props.get("spec") or {}
    generation = generations.get(str(props["node"]), 0)
    extensions = frozenset(spec.get("extensions") or ()) if spec else None
    return KnownNode(generation, str(spec.get("talos") or ""), str(spec.get("kubernetes") or ""), extensions)
