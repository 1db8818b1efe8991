"""Which versions go together, as data.

The ranges are those of Talos' own compatibility package (`pkg/machinery/compatibility`), which `talosctl upgrade-k8s`
enforces and a first install does not.
"""

import re

VERSION = re.compile(
    r"v(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})\.(0|[1-9][0-9]{0,3})(-[0-9A-Za-z]+(\.[0-9A-Za-z]+)*)?\Z"
)

Minor = tuple[int, int]

KUBERNETES_BY_TALOS: dict[Minor, tuple[Minor, Minor]] = {
    (1, 9): ((1, 27), (1, 32)),
    (1, 10): ((1, 28), (1, 33)),
    (1, 11): ((1, 29), (1, 34)),
    (1, 12): ((1, 30), (1, 35)),
    (1, 13): ((1, 31), (1, 36)),
}
"""Talos minor -> first and last Kubernetes minor. These are the ones that machine configs are written for: 1.14 moves
all of Kubernetes to documents of their own."""


def minor(version: str) -> Minor:
    """`v1.13.9` as (1, 13)."""
    major, second, *_ = version.removeprefix("v").split(".")
    return int(major), int(second)


def talos_range() -> str:
    """The Talos minors that this program knows, for messages."""
    return f"v{_text(min(KUBERNETES_BY_TALOS))} to v{_text(max(KUBERNETES_BY_TALOS))}"


def unsupported(talos: str, kubernetes: str) -> str | None:
    """Why this Kubernetes does not go with this Talos, or None. An unknown Talos is not judged."""
    known = KUBERNETES_BY_TALOS.get(minor(talos))
    if known is None or known[0] <= minor(kubernetes) <= known[1]:
        return None
    how = "old" if minor(kubernetes) < known[0] else "new"
    return f"Kubernetes {kubernetes} is too {how} for Talos {talos}"


def kubernetes_range(talos: str) -> str:
    """The Kubernetes minors that go with a known Talos version, for messages."""
    low, high = KUBERNETES_BY_TALOS[minor(talos)]
    return f"v{_text(low)} to v{_text(high)}"


def is_prerelease(version: str) -> bool:
    """Whether a version is an alpha, beta or release candidate."""
    return "-" in version


def _text(version: Minor) -> str:
    return f"{version[0]}.{version[1]}"
