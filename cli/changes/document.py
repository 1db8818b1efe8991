"""The JSON document of `pulumi preview --json`, typed.

Protocol source: `previewDigest` in https://github.com/pulumi/pulumi/blob/v3.232.0/pkg/display/json.go, and what engine
3.232 was seen to write: a dynamic resource has no `detailedDiff`, a secret is the text `[secret]`, an unknown value a
UUID, and a program that dies early leaves no `steps`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from providers.errors import ProtocolError
from settings.platform import PARTS

SAME = "same"
DELETES = frozenset({"delete", "delete-replaced", "discard"})
REPLACES = frozenset({"replace", "create-replacement", "delete-replaced", "read-replacement"})
_NOT_THE_PLAN = frozenset({"refresh", "read", "read-discard"})  # what was looked at, beside what would be done
_SEEN = ("on", "drift")  # outputs that a report tells of
_DEEPEST = 100
_NOT_OURS = frozenset(
    {"homelab:Node", "homelab:ControlPlane", "homelab:Card"}
)  # components that are no part of the platform


@dataclass(frozen=True)
class Step:
    """One resource of the plan.

    Attributes:
        op: create, update, delete, replace, same, ...
        old: its inputs as state holds them.
        new: its inputs as the program wishes them.
        seen: its outputs as state holds them: what was observed of the device.
        details: property paths that the resource's provider names, where it names any.
    """

    op: str
    urn: str
    parent: str = ""
    old: Mapping[str, Any] = field(default_factory=dict)
    new: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[str, Any] = field(default_factory=dict)
    details: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The step in the engine's own shape, without what nobody asks of it here."""
        old = {"parent": self.parent, "inputs": self.old, "outputs": {k: self.seen[k] for k in _SEEN if k in self.seen}}
        made = {
            "op": self.op,
            "urn": self.urn,
            "oldState": old,
            "newState": {"parent": self.parent, "inputs": self.new},
        }
        return {**made, "detailedDiff": dict.fromkeys(self.details)}

    @property
    def name(self) -> str:
        """What the program called it."""
        return self.urn.rsplit("::", 1)[-1]

    @property
    def type(self) -> str:
        """Its type, without its parents': `pulumi-python:dynamic/turingpi:Flash`."""
        return _types(self.urn)[-1]

    @property
    def kind(self) -> str:
        """The last word of its type: `Flash`, `Deployment`."""
        return self.type.rsplit(":", 1)[-1]

    @property
    def is_object(self) -> bool:
        """Whether it is one object in Kubernetes; a chart is many, and a release is Helm's."""
        return self.type.startswith("kubernetes:") and ":helm.sh/" not in self.type

    @property
    def replaced(self) -> bool:
        """Whether it would be deleted and made anew."""
        return self.op in REPLACES

    @property
    def deleted(self) -> bool:
        """Whether it would be gone."""
        return self.op in DELETES


@dataclass(frozen=True)
class Message:
    """Something that the program or a provider said while it was asked. `urn` is "" where it is about no resource."""

    urn: str
    text: str
    severity: str


@dataclass(frozen=True)
class Preview:
    """A whole document. `steps` are the plan, the unchanged resources among them if they were asked for."""

    steps: tuple[Step, ...]
    messages: tuple[Message, ...] = ()

    @property
    def changes(self) -> tuple[Step, ...]:
        """The resources that would change."""
        return tuple(step for step in self.steps if step.op != SAME)

    @property
    def errors(self) -> tuple[str, ...]:
        """Why it failed, where it did."""
        return tuple(message.text for message in self.messages if message.severity == "error")

    def as_json(self) -> dict[str, Any]:
        """The document in the engine's own shape; `parse` reads it back."""
        told = [{"urn": one.urn, "message": one.text, "severity": one.severity} for one in self.messages]
        return {"steps": [step.as_json() for step in self.steps], "diagnostics": told}

    def said_of(self, urn: str) -> Iterator[str]:
        """What was said of a resource, errors aside; the engine may ask twice, and is answered twice."""
        told = (m.text for m in self.messages if m.urn == urn and m.severity in ("info", "warning"))
        yield from dict.fromkeys(told)

    @cached_property
    def _parents(self) -> dict[str, str]:
        return {step.urn: step.parent for step in self.steps}

    def owner(self, step: Step) -> tuple[str, str]:
        """The component that a resource belongs to: type and name, such as (`homelab:Node`, `node3`); itself if none.

        Parents that would not change may be missing in the document. Then the URN's first type says which component
        it is, and all that have charts have names of their own.
        """
        urn, seen = step.urn, set[str]()
        while urn and urn not in seen:
            if _types(urn)[-1].startswith("homelab:"):
                return _types(urn)[-1], urn.rsplit("::", 1)[-1]
            seen.add(urn)
            urn = self._parents.get(urn) or (step.parent if urn == step.urn else "")
        first = _types(step.urn)[0]
        return (first, _part_name(first)) if first.startswith("homelab:") else (step.type, step.name)


def parse(text: str) -> Preview:
    """The document in `text`; what the engine prints around it is none of it.

    Raises:
        ProtocolError: it holds no such document.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict) or _too_deep(raw):
        raise ProtocolError("this is no document of `pulumi preview --json`")
    return of(raw)


def of(raw: Mapping[str, Any]) -> Preview:
    """The document as it comes out of JSON.

    Raises:
        ProtocolError: a step has no operation or no resource.
    """
    steps = tuple(_step(step) for step in _list(raw.get("steps")))
    messages = tuple(_message(message) for message in _list(raw.get("diagnostics")))
    return Preview(tuple(step for step in steps if step.op not in _NOT_THE_PLAN), messages)


def _too_deep(value: Any) -> bool:
    """Whether a value is nested deeper than any resource's; what follows goes down level by level."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [item for one in level for item in _inside(one)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    found = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    return [item for item in found if isinstance(item, (dict, list))]


def _step(raw: Any) -> Step:
    if not isinstance(raw, Mapping) or not isinstance(raw.get("op"), str) or not isinstance(raw.get("urn"), str):
        raise ProtocolError("pulumi preview --json: a step without an operation or a resource")
    old, new = mapping(raw.get("oldState")), mapping(raw.get("newState"))
    return Step(
        op=raw["op"],
        urn=raw["urn"],
        parent=str(new.get("parent") or old.get("parent") or ""),
        old=mapping(old.get("inputs")),
        new=mapping(new.get("inputs")),
        seen=mapping(old.get("outputs")),
        details=tuple(sorted(mapping(raw.get("detailedDiff")))),
    )


def _message(raw: Any) -> Message:
    found = mapping(raw)
    text = str(found.get("message") or "").strip()
    return Message(str(found.get("urn") or ""), text, str(found.get("severity") or "info"))


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a map, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _types(urn: str) -> list[str]:
    """`urn:pulumi:STACK::PROJECT::TYPE$TYPE::NAME`: the types, outermost first."""
    parts = urn.split("::", 3)
    return parts[2].split("$") if len(parts) == 4 else [urn]


def _part_name(kind: str) -> str:
    word = kind.rsplit(":", 1)[-1].lower()
    return {part.replace("-", ""): part for part in PARTS}.get(word, word)


def is_part(component: str) -> bool:
    """Whether a component's type is one of the platform's parts."""
    return component.startswith("homelab:") and component not in _NOT_OURS
