"""Whether a module boots, from its serial console: the only sign that a BMC can't get wrong (4a.4)."""

from __future__ import annotations

import re
from contextlib import suppress

from providers.deadline import Deadline
from providers.errors import HomelabError, ProtocolError, RefusedError, UnreachableError
from providers.turingpi.client import Bmc

# Loaders print when there is nothing to load, too; these words come from a kernel, or right before it.
_KERNEL = re.compile(r"[^\r\n]*(?:Starting kernel|Booting Linux|Linux version|Booting the kernel|\[talos\])[^\r\n]*")
_OVERLAP = 256


def speaks_a_kernel(text: str) -> bool:
    """Whether a console's text has words of a kernel in it, and not only a loader's."""
    return _KERNEL.search(text) is not None


class Console:
    """What a module says from now on. Make one before its power goes on.

    Args:
        bmc: its board.
        slot: 1 to 4.
        poll_s: seconds between two looks.
    """

    def __init__(self, bmc: Bmc, slot: int, poll_s: float) -> None:
        self._bmc = bmc
        self._slot = slot
        self._poll_s = poll_s
        self._before = ""
        self._new = ""
        with suppress(HomelabError):
            self._before = bmc.uart(slot)

    @property
    def last_line(self) -> str:
        """The last line that was seen, or "" for a silent console."""
        lines = [line.strip() for line in self._new.splitlines() if line.strip()]
        return lines[-1][:120] if lines else ""

    def booted(self, deadline: Deadline) -> str | None:
        """The kernel's first words, or None when none came in time."""
        while True:
            with suppress(UnreachableError, ProtocolError, RefusedError):
                self._new = added(self._before, self._bmc.uart(self._slot))
            match = _KERNEL.search(self._new)
            if match:
                return match[0].strip()
            if deadline.expired:
                return None
            deadline.sleep(self._poll_s)


def added(before: str, now: str) -> str:
    """What a console's ring of 16 KiB has more than before; all of it when the old text has been pushed out."""
    if now.startswith(before):
        return now[len(before) :]
    tail = before[-_OVERLAP:]
    found = now.rfind(tail) if tail else -1
    return now[found + len(tail) :] if found >= 0 else now
