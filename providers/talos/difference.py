"""From one machine config to another by config patches: what has to be deleted, what set, in Talos' own way of merging.

Talos deletes before it sets within one patch and can't do both to one key, so there are up to two patches a document.
Lists grow when they are merged, so a list that differs is deleted and set anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from providers.talos import documents
from providers.talos.compare import identity, pruned
from providers.talos.documents import Document

Path = tuple[str, ...]
_DELETE = {"$patch": "delete"}
_NAMES = ("apiVersion", "kind", "name")


@dataclass(frozen=True)
class Change:
    """One place of a config that differs.

    Attributes:
        document: its names; empty for the v1alpha1 document.
        path: within it; empty for a document that comes or goes whole.
        value: what it becomes; None is gone.
        replaces: whether what is there must be deleted first, because Talos would merge the two.
    """

    document: tuple[tuple[str, str], ...]
    path: Path
    value: Any = field(repr=False)  # may be a secret
    replaces: bool

    @property
    def where(self) -> str:
        """The place, for people."""
        kind = "/".join(value for key, value in self.document if key != "apiVersion")
        return ".".join(part for part in (kind, *self.path) if part)


def changes(base: str, wished: str) -> list[Change]:
    """What has to change in `base` for it to say the same as `wished`.

    Raises:
        UserError: one of them is not a machine config.
    """
    before = _by_identity(base)
    after = {key: pruned(document) for key, document in _by_identity(wished).items()}
    found: list[Change] = []
    for key in [*before, *(key for key in after if key not in before)]:
        names = _names(before.get(key) or after.get(key) or {})
        if key == ("", ""):
            found += _different((), (), before[key], after.get(key) or {})
        elif key not in after:
            found.append(Change(names, (), None, replaces=True))
        elif key not in before:
            found.append(Change(names, (), after[key], replaces=False))
        else:
            found += _different(names, (), before[key], after[key])
    return found


def patches(found: Iterable[Change]) -> list[Document]:
    """The changes as patches: deletions first, then what is set."""
    gone: dict[tuple[tuple[str, str], ...], Document] = {}
    come: dict[tuple[tuple[str, str], ...], Document] = {}
    for change in found:
        if change.replaces:
            _put(gone.setdefault(change.document, dict(change.document)), change.path, dict(_DELETE))
        if change.value is not None:
            _put(come.setdefault(change.document, dict(change.document)), change.path, change.value)
    return [*gone.values(), *come.values()]


def shared(found: Sequence[Sequence[Change]]) -> list[Change]:
    """The changes that every one of several configs needs."""
    first, *others = found
    return [change for change in first if all(change in other for other in others)]


def _by_identity(text: str) -> dict[tuple[str, str], Document]:
    found = documents.load(text)
    documents.main(found)
    return {identity(document): document for document in found}


def _names(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((key, str(document[key])) for key in _NAMES if key in document) if "kind" in document else ()


def _different(names: tuple[tuple[str, str], ...], path: Path, before: Document, after: Document) -> Iterator[Change]:
    for key in [*before, *(key for key in after if key not in before)]:
        here, old, new = (*path, key), before.get(key), after.get(key)
        said = pruned({key: old}).get(key)  # an empty map says nothing, and yet a text can't be merged into it
        if said == new and type(said) is type(new):
            continue
        if isinstance(new, Mapping) and (isinstance(old, Mapping) or old is None):
            yield from _different(names, here, dict(old or {}), dict(new))
        else:
            yield Change(names, here, new, replaces=old is not None and not _overwrites(old, new))


def _overwrites(old: Any, new: Any) -> bool:
    """Whether merging alone makes `new` of `old`. Talos takes "" and 0 for absent."""
    plain = not isinstance(old, (Mapping, list)) and not isinstance(new, (Mapping, list))
    return plain and new is not None and (isinstance(new, bool) or new not in ("", 0))


def _put(document: Document, path: Path, value: Any) -> None:
    if not path:
        document.update(value)
        return
    *above, last = path
    for key in above:
        document = document.setdefault(key, {})
    document[last] = value
