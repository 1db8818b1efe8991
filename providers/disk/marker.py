"""The note on a card that says whose it is: one block in the gap between the partition table and what follows.

Sector 40 is free on every image that is written here: a GPT ends before sector 34, boot loaders of the common boards
start at sector 64, and the first partition later still. The note stays when the machine grows its partitions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

SECTOR = 40
OFFSET = SECTOR * 512
BYTES = 512
_MAGIC = b"homelab-card\n"
WRITING, WRITTEN = "writing", "written"


@dataclass(frozen=True)
class Marker:
    """What is noted.

    Attributes:
        card: the card's name in the settings.
        generation: of the write.
        state: `writing` until all was verified, then `written`.
        image: SHA-256 of the image's raw bytes.
        recipe: SHA-256 of what was prepared on it; "" is nothing.
    """

    card: str
    generation: int
    state: str
    image: str
    recipe: str = ""

    def block(self) -> bytes:
        """The note as the bytes of its block."""
        text = _MAGIC + json.dumps(asdict(self)).encode()
        return text.ljust(BYTES, b"\0")


def on(path: str) -> Marker | None:
    """The note on a disk, or None where there is none or it can't be read."""
    try:
        with Path(path).open("rb") as file:
            file.seek(OFFSET)
            return read(file.read(BYTES))
    except OSError:
        return None


def read(block: bytes) -> Marker | None:
    """The note in a block, or None where there is none."""
    if not block.startswith(_MAGIC):
        return None
    try:
        return Marker(**json.loads(block[len(_MAGIC) :].rstrip(b"\0")))
    except (ValueError, TypeError):
        return None
