"""What would happen to a node, read from its four resources: Flash, Power, Machine, Member."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.changes.difference import fields, is_hidden, unpacked
from cli.changes.document import Preview, Step, mapping
from cli.changes.row import About, Row

CREDENTIALS = ("username", "password", "fingerprint", "board")
_REINSTALLED = "REINSTALLED"
_STAYS = "its config stays as it is"
_LEAVES = "LEAVES: drained, taken out of the cluster, reset (what its pods kept on its disk is lost), powered off"
_REBOOTS = re.compile(r"\breboots\b")
_LINE = r"(?:(\d+)\. )?{node}(?: \([a-z ]+\))?:? (.*)"  # how a node's line in a preview begins


class NodeSteps:
    """The steps of one node, by the kind of resource, and what was said of them."""

    def __init__(self, name: str, steps: Sequence[Step], preview: Preview) -> None:
        self.name = name
        self.steps = {step.kind: step for step in steps}
        self._preview = preview

    def said(self, kind: str) -> Iterator[str]:
        """What the provider of that resource says of its update."""
        step = self.changed(kind)
        if step is not None:
            yield from self._preview.said_of(step.urn)

    def changed(self, kind: str) -> Step | None:
        """The step of that kind, if it is an update."""
        step = self.steps.get(kind)
        return step if step is not None and step.op == "update" else None

    def before(self, kind: str) -> Mapping[str, Any]:
        """What state holds of that resource."""
        return unpacked(self.steps[kind].old) if kind in self.steps else {}

    def after(self, kind: str) -> Mapping[str, Any]:
        """What the program wishes of it."""
        return unpacked(self.steps[kind].new) if kind in self.steps else {}

    @property
    def spec(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """What its machine config is made of, before and after."""
        return mapping(self.before("Machine").get("spec")), mapping(self.after("Machine").get("spec"))

    @property
    def reinstalled(self) -> bool:
        """Whether its disk would be erased and written: by the settings, or by its provider's word."""
        old, new = self.before("Flash").get("generation"), self.after("Flash").get("generation")
        told = any(_REINSTALLED in text for text in self.said("Flash"))
        return told or (self.changed("Flash") is not None and _number(new) > _number(old))

    @property
    def replaced(self) -> bool:
        """Whether one of its resources would be replaced, which this program never asks for."""
        return any(step.replaced for step in self.steps.values())

    @property
    def created(self) -> bool:
        """Whether it is new."""
        return self._is("create")

    @property
    def gone(self) -> bool:
        """Whether it leaves; also when a run was killed half-way and only a part of it is left."""
        return self._is("delete")

    def _is(self, op: str) -> bool:
        found = self.steps.get("Node") or self.steps.get("Member") or self.steps.get("Machine")
        return found is not None and found.op == op


def row(node: NodeSteps) -> Row | None:
    """What would happen to a node; None where nothing would."""
    if all(step.op == "same" for step in node.steps.values()):
        return None
    if node.created:
        return Row(About.NODE, node.name, "created", tuple(_created(node)))
    if node.gone:
        return Row(About.NODE, node.name, "LEAVES", (_LEAVES,), "the node and what its pods kept on its disk")
    if node.replaced:
        what = "REPLACED: deleted and made anew"
        return Row(About.NODE, node.name, "REPLACED", (what,), "the node and what its pods kept on its disk")
    return _changed(node)


def _created(node: NodeSteps) -> Iterator[str]:
    flash, spec = node.after("Flash"), node.spec[1]
    where = f"board {_host(flash.get('board'))} slot {_number(flash.get('slot'))}"
    generation = _number(flash.get("generation"))
    written = f"installed on {where}" if generation else f"adopted on {where}, its disk is not written (generation 0)"
    yield f"created: {written}"
    if spec.get("role"):
        yield f"joins as {spec['role']}"


def _changed(node: NodeSteps) -> Row:
    said = list(_said(node))
    words = [
        *_moved(node),
        *_reinstalled(node),
        *_made_again(node),
        *(said or _versions(node)),
        *_role(node),
        *_drifted(node, said),
        *_secrets(node),
    ]
    harm = _harm(node)
    verb = _verb(node, words)
    return Row(About.NODE, node.name, verb, tuple(words) or (_otherwise(node),), harm)


def _verb(node: NodeSteps, words: Sequence[str]) -> str:
    if node.reinstalled:
        return _REINSTALLED
    staged = any("staged" in word for word in words)
    if not staged and (_talos_changes(node) or any(_REBOOTS.search(word) for word in words)):
        return "reboots"
    return "moves" if any(_moved(node)) else "changes"


def _harm(node: NodeSteps) -> str:
    if node.reinstalled:
        return "everything on its disk"
    old, new = (spec.get("role") for spec in node.spec)
    return "its etcd member" if old == "controlplane" and new and new != old else ""


def _reinstalled(node: NodeSteps) -> Iterator[str]:
    if node.reinstalled:
        old, new = (_number(bag.get("generation")) for bag in (node.before("Flash"), node.after("Flash")))
        counted = f" (generation {old} -> {new})" if old != new else ""
        what = "it leaves the cluster, its whole disk is erased and written, and it joins again"
        yield f"{_REINSTALLED}: {what}{counted}"


def _made_again(node: NodeSteps) -> Iterator[str]:
    """Resources that state has lost while the node stayed: it was found to be out of the cluster, say."""
    again = {"Member": "joins the cluster again", "Machine": "its config is applied again", "Power": "powered on"}
    for kind, words in again.items():
        if kind in node.steps and node.steps[kind].op == "create":
            yield words


def _moved(node: NodeSteps) -> Iterator[str]:
    old, new = node.before("Flash"), node.after("Flash")
    if node.changed("Flash") is None or not old or not new:
        return
    places = [(_host(bag.get("board")), _number(bag.get("slot"))) for bag in (old, new)]
    if places[0][1] != places[1][1] or (places[0][0] != places[1][0] and old.get("slot") is not None):
        where = " -> ".join(f"board {board} slot {slot}" for board, slot in places)
        yield f"moved: {where}, its disk is not written"
    if old.get("address") != new.get("address"):
        yield f"address {old.get('address')} -> {new.get('address')}"


def _talos_changes(node: NodeSteps) -> bool:
    old, new = node.spec
    return bool(old) and bool(new) and old.get("talos") != new.get("talos") and node.changed("Machine") is not None


def _versions(node: NodeSteps) -> Iterator[str]:
    """Versions that change, for when nobody else says so."""
    old, new = node.spec
    if node.changed("Machine") is None or not old or not new:
        return
    for key, title in (("talos", "Talos"), ("kubernetes", "Kubernetes")):
        if old.get(key) != new.get(key):
            yield f"{title} {old.get(key)} -> {new.get(key)}"
    if old.get("talos") == new.get("talos") and _schematic(old) != _schematic(new):
        yield "another schematic (other extensions in its image)"


def _schematic(spec: Mapping[str, Any]) -> str:
    """The id in an installer's reference: `factory.talos.dev/metal-installer/ID:VERSION`."""
    return str(spec.get("installer") or "").rpartition("/")[2].partition(":")[0]


def _said(node: NodeSteps) -> Iterator[str]:
    """What its providers say of the change: they know the machine config, which the document does not hold."""
    line = re.compile(_LINE.format(node=re.escape(node.name)), re.DOTALL)
    for kind in ("Machine", "Member", "Power"):
        for text in node.said(kind):
            match = line.fullmatch(text)
            turn, words = (match[1], match[2]) if match else (None, text)
            if words != _STAYS:
                yield f"{words} (turn {turn})" if turn else words


def _role(node: NodeSteps) -> Iterator[str]:
    old, new = (spec.get("role") for spec in node.spec)
    if old and new and old != new and node.changed("Machine") is not None:
        yield f"role {old} -> {new}"


def _drifted(node: NodeSteps, said: Sequence[str]) -> Iterator[str]:
    """What a refresh had noted: an output beside the inputs differs from them."""
    power, machine = node.changed("Power"), node.changed("Machine")
    if power is not None and power.seen.get("on") is False:
        yield "powered on again"
    if machine is not None and machine.seen.get("drift") and not any(str(machine.seen["drift"]) in one for one in said):
        yield f"{machine.seen['drift']}; set back"


def _secrets(node: NodeSteps) -> Iterator[str]:
    power, machine = node.changed("Power"), node.changed("Machine")
    if power is not None and not power.seen.get("on", True):
        power = None
    if power is not None and _credentials_change(power):
        yield "credentials of its board updated"
    if machine is not None and not machine.seen.get("drift") and is_hidden(machine):
        yield "secret changed"


def _credentials_change(power: Step) -> bool:
    if is_hidden(power):
        return True
    names = {field.path.removeprefix("settings.") for field in fields(power)}
    return bool(names & {"username", "password", "fingerprint"})


def _otherwise(node: NodeSteps) -> str:
    """What is left: its membership is looked at again, because credentials or the control planes are others."""
    updated = [step for step in node.steps.values() if step.op == "update"]
    if updated and all(is_hidden(step) for step in updated):
        return "credentials updated"
    return "stored settings updated, nothing happens on it"


def _host(board: object) -> str:
    return str(board or "?").removeprefix("https://").removeprefix("http://")


def _number(value: object) -> int:
    """A count of the wire, where all numbers are floats; 0 where it is not known."""
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0
