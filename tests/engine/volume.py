"""A lab with one volume that must not be lost: Longhorn, and an application that keeps its data there."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.engine.sandbox import Sandbox


def platform(prefix: str) -> dict[str, Any]:
    """Longhorn, and one application with a volume; the charts are the twin's."""
    volume = {"path": "/data", "storage_class": "longhorn"}
    web = {"image": "nginxinc/nginx-unprivileged:1.29.1", "port": 8080, "volume": volume}
    return {"charts": {"mirror": f"http://{prefix}.2:8080/charts"}, "longhorn": {}, "applications": {"web": web}}


def house(folder: Path) -> Iterator[Sandbox]:
    """Such a lab, up; ended when its tests are."""
    lab = Sandbox(folder).prepare()
    furnish(lab)
    try:
        lab.up().ok()
        yield lab
    finally:
        lab.end()


def furnish(lab: Sandbox) -> None:
    """Write them into the settings of a lab that has no platform."""
    section = textwrap.indent(yaml.safe_dump({"homelab:platform": platform(lab.prefix)}), "  ")
    settings = lab.folder / lab.settings
    settings.write_text(f"{settings.read_text(encoding='utf-8').rstrip()}\n{section}", encoding="utf-8")
