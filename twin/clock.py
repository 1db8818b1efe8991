"""Device time: what a real board would take, run faster by one number for the whole twin."""

import asyncio
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Clock:
    """Turns device seconds into real ones: `scale` 0.01 makes a boot of 60 s take 0.6 s."""

    scale: float
    _started: float = field(default_factory=time.monotonic)

    def real_s(self, device_s: float, floor_s: float = 0.0) -> float:
        """Real seconds of a device time; never below `floor_s`, for limits that a real client must be able to meet."""
        return max(device_s * self.scale, floor_s)

    async def sleep(self, device_s: float) -> None:
        """Let device time pass."""
        await asyncio.sleep(self.real_s(device_s))

    def now_s(self) -> float:
        """Device seconds since the twin was started."""
        elapsed = time.monotonic() - self._started
        return elapsed / self.scale if self.scale > 0 else elapsed
