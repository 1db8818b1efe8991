"""What would happen to a part of the platform, read from its objects, its chart and its claims."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.changes.difference import fields, is_hidden, unpacked
from cli.changes.document import SAME, Step, mapping
from cli.changes.row import About, Row

CLAIMS = ("PersistentVolumeClaim", "PersistentVolume")
# Parts that hold volumes of others.
_STORES = {
    "longhorn": "every volume of Longhorn",
    "nfs": "the way to every volume on NFS",
}
_ARCHIVE = re.compile(r"([^/]+?)-(v?\d[^/]*)\.tgz\Z")  # where a chart's archive lies on this machine
_LABEL = re.compile(r"(.+?)-(v?\d+(?:\.\d+)+.*)\Z")  # helm.sh/chart, as charts put it on their objects
_MOST = 3  # of a kind that are named


def row(name: str, steps: Sequence[Step]) -> Row | None:
    """What would happen to a part, given its steps and its component's; None where nothing would."""
    changed = [step for step in steps if step.op != SAME]
    if not changed:
        return None
    component = next((step for step in changed if step.type.startswith("homelab:")), None)
    if component is not None and component.op == "create":
        return Row(About.PART, name, "installed", tuple(_installed(changed)))
    if component is not None and component.deleted:
        harm = _STORES.get(name, "") or _claims(changed)
        words = ["REMOVED", _objects(changed), *([f"with them {_claims(changed)}"] if _claims(changed) else [])]
        return Row(About.PART, name, "REMOVED", tuple(word for word in words if word), harm)
    return Row(About.PART, name, "changes", tuple(_changes(changed)), _harm(changed))


def _installed(steps: Sequence[Step]) -> Iterator[str]:
    versions = {chart: new for chart, (_, new) in _charts(steps).items() if new}
    yield "installed" + (f": chart {_listed(f'{chart} {new}' for chart, new in versions.items())}" if versions else "")
    charts = [step for step in steps if step.kind == "Chart"]
    if charts and not any(step.is_object and step.parent == charts[0].urn for step in steps):
        yield "the objects of its chart are known once the cluster answers"
    elif any(step.is_object for step in steps):
        yield _objects(steps)


def _changes(steps: Sequence[Step]) -> Iterator[str]:
    for chart, (old, new) in sorted(_charts(steps).items()):
        if old and new and old != new:
            yield f"{_title(chart, steps)} {old} -> {new}"
    yield from _images(steps)
    if any(step.is_object for step in steps):
        yield _objects(steps)
    if any(step.is_object and step.op == "update" and step.details and not fields(step) for step in steps):
        yield "what was changed by hand is set back"
    lost = _harm(steps)
    if lost:
        yield f"DELETES {lost}"
    rest = [step for step in steps if not step.is_object]
    if any(step.kind == "Release" and step.op == "update" and _values(step) for step in rest):
        yield "values of its release change"
    if any(step.kind == "RandomPassword" and (step.replaced or step.op == "create") for step in rest):
        yield "password made anew"
    if _only_secrets(steps):
        yield "secret changed"
    elif not any(step.is_object for step in steps) and any(step.kind in ("Ready", "Preconditions") for step in rest):
        yield "waited for again"


def _values(step: Step) -> bool:
    return any(field.path.startswith("values") for field in fields(step))


def _only_secrets(steps: Sequence[Step]) -> bool:
    """Whether some update has nothing to show but that it holds a secret."""
    return any(step.op == "update" and is_hidden(step) for step in steps)


def _title(chart: str, steps: Sequence[Step]) -> str:
    """`chart`, with its name where the part has several."""
    return "chart" if len(_charts(steps)) == 1 else f"chart {chart}"


def _objects(steps: Sequence[Step]) -> str:
    """`3 objects change`, and how where they don't all do the same."""
    ops = Counter(_word(step) for step in steps if step.is_object)
    total = sum(ops.values())
    if not total:
        return ""
    what = f"{total} object{'' if total == 1 else 's'}"
    change = "changes" if total == 1 else "change"
    if len(ops) == 1:
        word = next(iter(ops))
        return f"{what} {change if word == 'changed' else word}"
    detail = ", ".join(f"{count} {word}" for word, count in sorted(ops.items()))
    return f"{what} {change} ({detail})"


def _word(step: Step) -> str:
    if step.replaced:
        return "replaced"
    return {"create": "created", "delete": "deleted"}.get(step.op, "changed")


def _charts(steps: Sequence[Step]) -> dict[str, tuple[str, str]]:
    """Chart -> its version before and after, from whatever tells: a release, an archive's name, the objects' label."""
    found: dict[str, tuple[str, str]] = {}
    for step in steps:
        old, new = _chart(step.old), _chart(step.new)
        name = (new or old or ("", ""))[0]
        if name:
            before, after = found.get(name, ("", ""))
            found[name] = (before or (old[1] if old else ""), after or (new[1] if new else ""))
    return found


def _chart(bag: Mapping[str, Any]) -> tuple[str, str] | None:
    inputs = unpacked(bag)
    archive = inputs.get("archive") or inputs.get("chart")
    match = _ARCHIVE.search(archive) if isinstance(archive, str) else None
    if match is None:
        match = _LABEL.match(_label(bag))
    return (match[1], match[2]) if match else None


def _label(bag: Mapping[str, Any]) -> str:
    value = mapping(mapping(bag.get("metadata")).get("labels")).get("helm.sh/chart")
    return value if isinstance(value, str) else ""


def _images(steps: Sequence[Step]) -> Iterator[str]:
    """Images that containers change to, unless a chart's new version says it all."""
    if any(old and new and old != new for old, new in _charts(steps).values()):
        return
    pairs = {
        f"image {field.old} -> {field.new}"
        for step in steps
        if step.op == "update" and step.is_object
        for field in fields(step)
        if field.path.endswith(".image")
    }
    if pairs:
        yield _listed(sorted(pairs))


def _claims(steps: Sequence[Step]) -> str:
    names = [_named(step) for step in steps if step.kind in CLAIMS and (step.deleted or step.replaced)]
    return f"volume {_listed(names)}" if names else ""


def _harm(steps: Sequence[Step]) -> str:
    """What is lost while the part stays."""
    spaces = [_named(step) for step in steps if step.kind == "Namespace" and (step.deleted or step.replaced)]
    kinds = [_named(step) for step in steps if step.kind == "CustomResourceDefinition" and step.deleted]
    lost = [
        _claims(steps),
        f"namespace {_listed(spaces)} with all that is in it" if spaces else "",
        f"every object of kind {_listed(kinds)}" if kinds else "",
    ]
    return " and ".join(item for item in lost if item)


def _named(step: Step) -> str:
    """An object as people call it: its namespace and name."""
    metadata = mapping(step.old.get("metadata")) or mapping(step.new.get("metadata"))
    name, space = metadata.get("name"), metadata.get("namespace")
    return "/".join(str(part) for part in (space, name) if part) or step.name


def _listed(items: Any) -> str:
    found = list(items)
    return ", ".join(found[:_MOST]) + (f" and {len(found) - _MOST} more" if len(found) > _MOST else "")
