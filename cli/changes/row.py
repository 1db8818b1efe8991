"""One line of the table: a node, a part of the platform, etcd or the cluster, and what would happen to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class About(StrEnum):
    """What a row is about, in the order of the table."""

    CLUSTER = "cluster"
    NODE = "node"
    PART = "part"
    OTHER = "other"


@dataclass(frozen=True)
class Row:
    """What would happen to one thing.

    Attributes:
        name: of the thing, as the settings call it; an acknowledgement names it too.
        verb: in a word or two, for the summary: `reboots`, `REINSTALLED`. What destroys is in capitals.
        words: in full, each part of it.
        harm: what is lost; "" where nothing is.
    """

    about: About
    name: str
    verb: str
    words: tuple[str, ...]
    harm: str = ""

    @property
    def text(self) -> str:
        """The row's second cell."""
        return ", ".join(self.words)
