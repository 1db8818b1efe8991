"""The rules as one tree of types. The JSON schema is made from the descriptions and defaults here.

Every default lets everything pass that passed without the file; what is probably not meant is warned of.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import PlainSerializer, StrictBool, StrictInt

from settings import kinds, ranges
from settings.part import Part, key
from settings.problems import quoted, wrong

LEAVES = "leaves"


class Reaction(StrEnum):
    """What a rule does when it is broken."""

    REFUSE = "refuse"
    WARN = "warn"
    ALLOW = "allow"


def _word(value: object) -> int | str:
    if value == LEAVES:
        return LEAVES
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise wrong(f"{quoted(value)} acknowledges nothing", f"write the generation that erases it, or `{LEAVES}`")


Word = Annotated[
    int | str,
    *kinds.kind(_word, {"anyOf": [{"type": "integer", "minimum": 1}, {"const": LEAVES}]}),
    PlainSerializer(lambda word: word, when_used="json"),
]


class Wipe(Part):
    """Nothing is erased without a word here."""

    acknowledge: StrictBool = key(
        "Whether erasing a node, or taking one or a part with volumes away, needs a word below besides the settings'.",
        default=False,
    )
    acknowledged: dict[kinds.Name, Word] = key(
        "Node -> the generation that may erase it, or `leaves`; part or application -> `leaves`.", default_factory=dict
    )


class ControlPlanes(Part):
    """etcd keeps its quorum through a loss with three."""

    at_least: StrictInt = key("How many control planes there are at least.", default=1, ge=1, le=9, unit="count")


class LoadBalancers(Part):
    """Services stay inside the house."""

    public: Reaction = key("When platform.pools has addresses that the internet routes.", default=Reaction.WARN)
    allowed: tuple[ranges.Range, ...] = key(
        "Public ranges that are meant.", default=(), unit="list: FIRST-LAST or network"
    )


class Versions(Part):
    """What runs today runs tomorrow."""

    floating: Reaction = key(
        "When an image, plugin or disk image of the settings can change under its name.", default=Reaction.WARN
    )


class Backups(Part):
    """What an upgrade breaks can be brought back."""

    max_age_hours: StrictInt | None = key(
        "How old the newest backup of etcd may be when Talos or Kubernetes is upgraded. Absent: it is not looked for.",
        default=None,
        ge=1,
        unit="hours",
    )


class Policy(Part):
    """What an owner wants never to happen."""

    stacks: tuple[kinds.Name, ...] = key("Which stacks it is for. Empty: all that have it beside them.", default=())
    wipe: Wipe = key("Nothing is erased without a word here.", default_factory=Wipe)
    control_planes: ControlPlanes = key("etcd keeps its quorum through a loss.", default_factory=ControlPlanes)
    load_balancers: LoadBalancers = key("Services stay inside the house.", default_factory=LoadBalancers)
    versions: Versions = key("What runs today runs tomorrow.", default_factory=Versions)
    backups: Backups = key("What an upgrade breaks can be brought back.", default_factory=Backups)

    def is_for(self, stack: str) -> bool:
        """Whether a stack has to keep to it."""
        return not self.stacks or stack in self.stacks

    @property
    def asks_the_state(self) -> bool:
        """Whether a rule is on that needs to know what is there."""
        return self.wipe.acknowledge or self.backups.max_age_hours is not None


def schema() -> dict[str, Any]:
    """The JSON schema of the file, for editors."""
    made = Policy.model_json_schema(ref_template="#/$defs/{model}")
    return {"$schema": "http://json-schema.org/draft-07/schema#", **made, "title": "Rules for a lab (policy.yaml)"}
