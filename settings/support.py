"""How versions are written, and which ones there are. Which go together is `providers.talos.skew`'s to know."""

import re

from providers.talos.skew import KUBERNETES_BY_TALOS, minor, text, unsupported

__all__ = [
    "KUBERNETES_BY_TALOS",
    "VERSION",
    "is_prerelease",
    "kubernetes_range",
    "minor",
    "talos_range",
    "text",
    "unsupported",
]

VERSION = re.compile(
    r"v(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})(-[0-9A-Za-z]+(\.[0-9A-Za-z]+)*)?\Z"
)


def talos_range() -> str:
    """The Talos minors that this program knows, for messages."""
    return f"{text(min(KUBERNETES_BY_TALOS))} to {text(max(KUBERNETES_BY_TALOS))}"


def kubernetes_range(talos: str) -> str:
    """The Kubernetes minors that go with a known Talos version, for messages."""
    low, high = KUBERNETES_BY_TALOS[minor(talos)]
    return f"{text(low)} to {text(high)}"


def is_prerelease(version: str) -> bool:
    """Whether a version is an alpha, beta or release candidate."""
    return "-" in version
