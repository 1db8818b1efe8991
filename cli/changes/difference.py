"""Two property bags compared: the engine shows no difference for dynamic resources, so it is found here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cli.changes.document import Step

SECRET = "[secret]"  # noqa: S105  # what the engine writes for one
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
LATER = "known after apply"
LONGEST = 300  # characters of a value that are shown
_HIDDEN = "__provider"  # the reference to a provider's code
_PLAIN_KEY = re.compile(r"[\w$-]+\Z")


class _Absent:
    """A property that is not there, which is not the same as one that is null."""


ABSENT = _Absent()


@dataclass(frozen=True)
class Field:
    """A property that differs. `path` is such as `spec.containers[0].image`."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        """One line of a plain diff."""
        if isinstance(self.old, _Absent):
            return f"+ {self.path}: {shown(self.new)}"
        if isinstance(self.new, _Absent):
            return f"- {self.path}: {shown(self.old)}"
        return f"~ {self.path}: {shown(self.old)} -> {shown(self.new)}"


def fields(step: Step) -> list[Field]:
    """What an update would change, as far as it shows; a secret that changes does not."""
    return list(_fields("", step.old, step.new))


def is_hidden(step: Step) -> bool:
    """Whether an update shows no difference although it has secrets: one of them changes."""
    return not fields(step) and not step.details and _has_secret(step.old) and _has_secret(step.new)


def unpacked(bag: Mapping[str, Any]) -> Mapping[str, Any]:
    """The inputs of one of this program's resources, which travel as one property."""
    inner = bag.get("settings")
    return inner if isinstance(inner, Mapping) else bag


def shown(value: Any) -> str:
    """A value on one line; what is long is cut."""
    if value == UNKNOWN:
        return LATER
    if value == SECRET:
        return SECRET
    text = json.dumps(value, ensure_ascii=False, sort_keys=True).replace(f'"{UNKNOWN}"', LATER).replace(UNKNOWN, LATER)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def _fields(path: str, old: Any, new: Any) -> Iterator[Field]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new} - {_HIDDEN}):
            yield from _fields(_under(path, str(key)), old.get(key, ABSENT), new.get(key, ABSENT))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from _fields(f"{path}[{index}]", *pair)
    else:
        yield Field(path, old, new)


def _under(path: str, key: str) -> str:
    word = key if _PLAIN_KEY.match(key) else json.dumps(key, ensure_ascii=False)
    return f"{path}.{word}" if path else word


def _has_secret(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_secret(item) for item in value.values())
    if isinstance(value, list):
        return any(_has_secret(item) for item in value)
    return bool(value == SECRET)
