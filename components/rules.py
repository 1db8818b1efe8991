"""The project's own alert and recording rules (`rules/*.yaml`), by the part that gives the metrics they read.

The files are Prometheus' own format, so that promtool tests them as they are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "rules"

# Rules for a part that is off would read metrics that nobody gives.
OF_PART = {"longhorn": "longhorn", "etcd-backup": "backups"}
ALWAYS = ("certificates", "etcd", "nodes")


def files(parts: frozenset[str]) -> tuple[str, ...]:
    """The names of the rule files for a platform with these parts."""
    return tuple(sorted((*ALWAYS, *(name for part, name in OF_PART.items() if part in parts))))


def groups(name: str) -> list[dict[str, Any]]:
    """A file's groups, as they stand in a PrometheusRule's spec."""
    found: list[dict[str, Any]] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["groups"]
    return found
