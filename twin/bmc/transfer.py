"""One transfer of bmcd, and how it may go wrong (facts A6)."""

import asyncio
import secrets
import time
from dataclasses import dataclass, field

_CHANNEL = 16  # bmcd pulls through a channel of this many chunks: the rest waits in TCP


class FlashRefused(Exception):
    """A flash request that ends as HTTP 500 with this text."""


class Broken(Exception):
    """The connection ends without an answer: more bytes than announced came, or bmcd was killed."""


class Failed(Exception):
    """The worker's error, as the status will show it."""


@dataclass
class Transfer:
    """One transfer from its start to its end."""

    slot: int | None  # None: the BMC's own firmware
    name: str
    length: int
    sha256: str = ""
    skip_crc: bool = False
    xz: bool = False
    handle: int = field(default_factory=lambda: secrets.randbelow(1 << 32))
    written: int = 0
    received: int = 0
    began: bool = False
    pulled: bool = False  # from a file on the BMC or a URL
    owns_node: bool = False
    error: str | None = None
    killed: bool = False
    started: float = field(default_factory=time.monotonic)
    channel: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_CHANNEL))

    @property
    def chunk_bytes(self) -> int:
        """How much is read from the sender at once: a channel full of it is a small part of any image."""
        return min(max(self.length >> 8, 4 << 10), 64 << 10)

    @property
    def process(self) -> str:
        """The name of the work in the status; its nodes count from 1."""
        return "bmc upgrade service" if self.slot is None else f"Node {self.slot} os install service"
