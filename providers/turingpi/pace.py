"""How long a flash waits for what, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Pace:
    """How long a flash waits for what, in seconds. The defaults are for real boards.

    Attributes:
        poll_s: between two looks at a running flash (what Turing's own tool takes).
        own_s: to see our own transfer before sending; well under the BMC's 10 s.
        stall_s: without one byte written or taken, after which a flash has failed.
        answer_s: from the last byte sent to the answer; what is still on its way gets written meanwhile.
        silent_s: of failing questions in a row, after which the BMC counts as crashed.
        cool_down_s: of leaving a crashed BMC alone.
        return_s: until a crashed or rebooted BMC answers again.
        boot_s: from power on to the kernel's first words on the console.
    """

    poll_s: float = 0.5
    own_s: float = 4.0
    stall_s: float = 120.0
    answer_s: float = 600.0
    silent_s: float = 20.0
    cool_down_s: float = 20.0
    return_s: float = 240.0
    boot_s: float = 180.0

    @classmethod
    def scaled(cls, scale: float) -> Pace:
        """The same on a twin that runs `scale` real seconds in a device second; real machines answer in real time."""
        floors = {"poll_s": 0.05, "own_s": 1.0, "silent_s": 3.0, "cool_down_s": 0.2}
        real = cls()
        return replace(
            real,
            **{
                name: min(seconds, max(floors.get(name, 15.0), seconds * scale)) for name, seconds in vars(real).items()
            },
        )


@dataclass(frozen=True)
class Flashed:
    """A flash that ended well.

    Attributes:
        sha256_raw: of the bytes on the disk.
        bytes: how many.
        seconds: from the call to the boot, a second try included.
        seen: what was taken as the sign of the boot.
        attempts: how many it took.
    """

    sha256_raw: str
    bytes: int
    seconds: float
    seen: str = ""
    attempts: int = 1
