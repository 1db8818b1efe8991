"""The installer: the disk that a config means, and the extensions that the image brings."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from twin import schematic
from twin.machine import Machine
from twin.talos.config import Config

if TYPE_CHECKING:
    from twin.talos.os import Os

DISK_MODEL = "TWIN32"
_UNITS = {
    "": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_SIZE = re.compile(r"^\s*(==|>=|<=|>|<)?\s*([\d.]+)\s*([KMGT]i?B)?\s*$")


def problem(machine: Machine, config: Config) -> str:
    """Why nothing can be installed on this machine; empty if it can (a wrong disk: facts B4, issue 11940)."""
    disk = config.at("machine", "install", "disk")
    selector = config.at("machine", "install", "diskSelector")
    if selector:
        return "" if _selected(machine, selector) else "no disk matches the disk selector"
    return "" if disk == machine.disk.device else f"lstat {disk}: no such file or directory"


def _selected(machine: Machine, selector: dict[str, object]) -> bool:
    known: dict[str, Callable[[str], bool]] = {
        "size": lambda wanted: _size_matches(wanted, machine.disk.size_bytes),
        "type": lambda wanted: wanted == "sd",
        "model": lambda wanted: fnmatch.fnmatch(DISK_MODEL, wanted),
        "serial": lambda wanted: fnmatch.fnmatch(machine.spec.serial, wanted),
        "name": lambda wanted: fnmatch.fnmatch(machine.disk.device, wanted),
    }
    return all(key in known and known[key](str(wanted)) for key, wanted in selector.items())


def _size_matches(wanted: str, size: int) -> bool:
    match = _SIZE.match(wanted)
    if match is None:
        return False
    limit = float(match[2]) * _UNITS[match[3] or ""]
    compared = {">=": size >= limit, "<=": size <= limit, ">": size > limit, "<": size < limit, "==": size == limit}
    return compared[match[1] or "=="]


def extensions(system: Os) -> list[str]:
    """The extensions of the image's schematic, as far as the lab's factory knows it."""
    path = system.lab.folder / "factory" / f"{system.schematic}.yaml"
    return schematic.extensions(path.read_text(encoding="utf-8")) if path.exists() else []
