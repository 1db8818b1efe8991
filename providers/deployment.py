"""The engine's deployment document: what `pulumi stack export` gives, and what the state file holds (version 3)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

SIGNATURE = "4dabf18193072939515e22adb298388d"  # marks what is no plain value
SECRET = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105  # this mark's value for a secret
PACKED = "settings"  # the one property that holds a dynamic resource's inputs (providers/dynamic.py)
STACK = "pulumi:pulumi:Stack"

Item = Mapping[str, Any]


class Hidden:
    """Stands for a secret that could not be opened here."""

    def __repr__(self) -> str:
        return "[secret]"


HIDDEN = Hidden()


def opened(value: Any) -> Any:
    """A value without the engine's wrappers of secrets; one that is still encrypted is `HIDDEN`."""
    if isinstance(value, Mapping):
        if value.get(SIGNATURE) == SECRET:
            return opened(json.loads(value["plaintext"])) if "plaintext" in value else HIDDEN
        return {key: opened(item) for key, item in value.items()}
    return [opened(item) for item in value] if isinstance(value, list) else value


def is_open(value: Any) -> bool:
    """Whether no secret in it is still encrypted."""
    if isinstance(value, Mapping):
        return all(is_open(item) for item in value.values())
    return all(map(is_open, value)) if isinstance(value, list) else value is not HIDDEN


def inputs(item: Item) -> Mapping[str, Any]:
    """A resource's inputs, opened; those of a dynamic one as its provider gets them."""
    found = opened(item.get("inputs") or {})
    packed = found.get(PACKED)
    return {**packed, **found} if isinstance(packed, Mapping) else found


def parts(resources: Iterable[Item]) -> dict[str, str]:
    """URN -> the name of the outermost component that it is in: a node, a part of the platform.

    State lists a parent before its children.
    """
    found: dict[str, str] = {}
    for item in resources:
        own = str(item["urn"]).rsplit("::", 1)[-1]
        inside = found.get(str(item.get("parent", "")), "")
        found[item["urn"]] = "" if item["type"] == STACK else inside or own
    return found
