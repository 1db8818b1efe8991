"""The Image Factory's schematic ids: sha256 of the schematic as its Go code writes it (facts B8)."""

import hashlib
from typing import Any

import yaml

_TOP = ("overlay", "customization")
_OVERLAY = ("image", "name", "options")
_CUSTOMIZATION = (
    "embeddedMachineConfiguration",
    "extraKernelArgs",
    "meta",
    "systemExtensions",
    "secureboot",
    "bootloader",
)


class InvalidSchematic(Exception):
    """The body is no schematic; the text is the factory's 400."""


def canonical(body: bytes) -> str:
    """The schematic in the one form that its id is made of. Raises InvalidSchematic."""
    try:
        asked = yaml.safe_load(body) or {}
    except yaml.YAMLError as error:
        raise InvalidSchematic(f"failed to unmarshal schematic: {type(error).__name__}") from None
    ordered = _ordered(asked, _TOP)
    if "overlay" in ordered:
        ordered["overlay"] = _ordered(ordered["overlay"], _OVERLAY)
    ordered["customization"] = _ordered(ordered.get("customization") or {}, _CUSTOMIZATION)
    return _emit(ordered, "")


def identity(body: bytes) -> str:
    """The schematic's id. Raises InvalidSchematic."""
    return hashlib.sha256(canonical(body).encode()).hexdigest()


def overlay(text: str) -> str:
    """The overlay's name in a canonical schematic, or nothing."""
    return str((yaml.safe_load(text).get("overlay") or {}).get("name", ""))


def extensions(text: str) -> list[str]:
    """The official extensions of a canonical schematic."""
    customization = yaml.safe_load(text).get("customization") or {}
    return list((customization.get("systemExtensions") or {}).get("officialExtensions") or [])


def _ordered(asked: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise InvalidSchematic("failed to unmarshal schematic: not a mapping")
    unknown = [key for key in asked if key not in keys]
    if unknown:
        raise InvalidSchematic(f"failed to unmarshal schematic: field {unknown[0]} not found")
    return {key: asked[key] for key in keys if asked.get(key)}


def _emit(value: dict[str, Any], indent: str) -> str:
    return "".join(_entry(key, item, indent) for key, item in value.items())


def _entry(key: str, item: Any, indent: str) -> str:
    deeper = indent + "    "
    if isinstance(item, dict):
        return f"{indent}{key}: {{}}\n" if not item else f"{indent}{key}:\n{_emit(item, deeper)}"
    if isinstance(item, list):
        return f"{indent}{key}:\n" + "".join(_item(element, deeper) for element in item)
    return f"{indent}{key}: {_scalar(item)}\n"


def _item(element: Any, indent: str) -> str:
    if isinstance(element, dict):
        return f"{indent}- " + _emit(element, indent + "  ").lstrip()
    return f"{indent}- {_scalar(element)}\n"


def _scalar(value: Any) -> str:
    return str(yaml.safe_dump(value, width=1 << 20, default_flow_style=True)).removesuffix("...\n").strip()
