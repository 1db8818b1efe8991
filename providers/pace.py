"""How fast the lab's time runs: 1 on devices, the twin's scale on a twin (`HOMELAB_TIME_SCALE`)."""

from __future__ import annotations

import os

MIN_INTERVAL_S = 0.05
MIN_LIMIT_S = 45.0  # the twin's API servers are real and start in real seconds, whatever the scale


def scale() -> float:
    """Real seconds for one device second."""
    return float(os.environ.get("HOMELAB_TIME_SCALE", "1"))


def interval(device_seconds: float) -> float:
    """The real seconds between two looks at a device."""
    return max(MIN_INTERVAL_S, device_seconds * scale())


def limit(device_seconds: float) -> float:
    """The real seconds after which waiting for a device is given up."""
    return max(min(MIN_LIMIT_S, device_seconds), device_seconds * scale())
