"""What was found: each difference with its kind, its name, and what to type; and what could not be asked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

FORMAT = 1  # of the JSON; a key is only ever added under the same number

LAB = "the lab"  # what was not asked when nothing at all answered


class Kind(StrEnum):
    """What sort of difference it is. The words are part of the JSON's and the metrics' contract."""

    POWER_OFF = "power_off"
    NOT_ANSWERING = "not_answering"
    MAINTENANCE = "maintenance"
    FOREIGN = "foreign"
    CONFIG_CHANGED = "config_changed"
    HOST_CHANGED = "host_changed"
    NOT_IN_KUBERNETES = "not_in_kubernetes"
    NOT_IN_ETCD = "not_in_etcd"
    OBJECT_CHANGED = "object_changed"
    OBJECT_DELETED = "object_deleted"
    RELEASE_CHANGED = "release_changed"
    ORPHAN_ETCD_MEMBER = "orphan_etcd_member"
    ORPHAN_NODE = "orphan_node"
    ORPHAN_LONGHORN_NODE = "orphan_longhorn_node"
    ORPHAN_SLOT = "orphan_slot"

    @property
    def is_orphan(self) -> bool:
        """Whether it is there and nothing declares it, rather than declared and not so."""
        return self.value.startswith("orphan_")


@dataclass(frozen=True)
class Finding:
    """One difference.

    Attributes:
        kind: what sort.
        name: the node, the slot (`board1/4`), the etcd member, or the object (`Deployment/web/web`).
        what: one sentence.
        repair: what to type, in order; empty where only the owner can tell.
        fields: of a changed object, the places that differ; never their values.
        identity: what tells it from a later one of the same name; empty where the name does.
        declared: of an orphan, that the settings name it all the same, so that it is never taken away.
        first_seen: of an orphan, when it was seen first.
    """

    kind: Kind
    name: str
    what: str
    repair: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    identity: str = ""
    declared: bool = False
    first_seen: datetime | None = None

    @property
    def key(self) -> str:
        """Under which its sightings are noted."""
        return "/".join(part for part in (self.kind.value, self.name, self.identity) if part)

    def since(self, first: datetime) -> Finding:
        """The same, with the moment of its first sighting."""
        return replace(self, first_seen=first)

    def as_json(self) -> dict[str, Any]:
        """Plain values, in the documented shape."""
        return {
            "kind": self.kind.value,
            "name": self.name,
            "what": self.what,
            "repair": list(self.repair),
            "fields": list(self.fields),
            "first_seen": self.first_seen.isoformat() if self.first_seen else None,
        }


@dataclass(frozen=True)
class Unasked:
    """Something that gave no answer, so that nothing is known of it.

    Attributes:
        name: what was to be asked.
        why: in a sentence.
        hides: how the keys of the findings begin that may be there unseen.
    """

    name: str
    why: str
    hides: tuple[str, ...] = ()

    def as_json(self) -> dict[str, str]:
        """Plain values, in the documented shape."""
        return {"name": self.name, "why": self.why}


@dataclass(frozen=True)
class Report:
    """Everything that one look found."""

    findings: tuple[Finding, ...] = ()
    unasked: tuple[Unasked, ...] = ()

    @property
    def orphans(self) -> tuple[Finding, ...]:
        """What is there and nothing declares."""
        return tuple(finding for finding in self.findings if finding.kind.is_orphan)

    @property
    def blind(self) -> bool:
        """Whether nothing of the lab answered."""
        return any(silent.name == LAB for silent in self.unasked)

    def hides(self, key: str) -> bool:
        """Whether a finding of that key could be there and not have been seen."""
        return any(key.startswith(start) for silent in self.unasked for start in silent.hides)

    def as_json(self, stack: str, cluster: str, at: datetime, removed: tuple[str, ...] = ()) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "format": FORMAT,
            "stack": stack,
            "cluster": cluster,
            "at": at.isoformat(),
            "drift": bool(self.findings),
            "findings": [finding.as_json() for finding in self.findings],
            "unasked": [silent.as_json() for silent in self.unasked],
            "removed": list(removed),
        }
