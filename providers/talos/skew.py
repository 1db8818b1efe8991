"""Which versions go together and which way leads from one to the next, as data. Pure: nothing is asked.

The ranges are those of Talos' own compatibility package (`pkg/machinery/compatibility`), which `talosctl upgrade-k8s`
enforces and a first install does not. The steps are the documented ones, which are narrower than what the installer
lets pass: https://www.talos.dev/latest/talos-guides/upgrading-talos/.
"""

from __future__ import annotations

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

RUNS = "runs "  # how the words begin that say what a node runs instead of what it should
_ETCD_3_6 = (1, 11)  # from here on; its data can't be read by the etcd of an older Talos


def minor(version: str) -> Minor:
    """`v1.13.9` as (1, 13)."""
    major, second, *_ = version.removeprefix("v").split(".")
    return int(major), int(second)


def text(version: Minor) -> str:
    """(1, 13) as `v1.13`."""
    return f"v{version[0]}.{version[1]}"


def unsupported(talos: str, kubernetes: str) -> str | None:
    """Why this Kubernetes does not go with this Talos, or None. An unknown Talos is not judged."""
    known = KUBERNETES_BY_TALOS.get(minor(talos))
    if known is None or known[0] <= minor(kubernetes) <= known[1]:
        return None
    how = "old" if minor(kubernetes) < known[0] else "new"
    return f"Kubernetes {kubernetes} is too {how} for Talos {talos}"


def talos_step(old: str, new: str) -> str | None:
    """Why Talos can't go from one version to another in one step, or None."""
    before, after = minor(old), minor(new)
    if after[0] == before[0] and after[1] - before[1] in (0, 1):
        return None
    if after > before:
        stop = text((before[0], before[1] + 1))
        return f"Talos goes minor by minor: from {old} to the last {stop} first, and from there to {new}"
    if after[0] == before[0] and before[1] - after[1] == 1 and not after < _ETCD_3_6 <= before:
        return None
    return f"Talos does not go back from {old} to {new}: what the newer one wrote, the older one can't read"


def kubernetes_step(old: str, new: str) -> str | None:
    """Why Kubernetes can't go from one version to another in one step, or None."""
    before, after = minor(old), minor(new)
    if after < before:
        return f"Kubernetes does not go back from {old} to {new}; `homelab restore` is the way back"
    if (after[0], after[1] - before[1]) in ((before[0], 0), (before[0], 1)):
        return None
    stop = text((before[0], before[1] + 1))
    return f"Kubernetes goes minor by minor: from {old} to the last {stop} first, and from there to {new}"


def step(old: tuple[str, str], new: tuple[str, str]) -> list[tuple[str, str]]:
    """What stands against a move, as setting and reason.

    Talos moves first and Kubernetes afterwards, so the Kubernetes that is there must go with the Talos that comes.

    Args:
        old: the versions of Talos and Kubernetes that the node was last brought to.
        new: the wished ones.
    """
    found = [("cluster.talos.version", talos_step(old[0], new[0]))]
    found.append(("cluster.kubernetes.version", kubernetes_step(old[1], new[1])))
    if all(reason is None for _, reason in found) and old[0] != new[0]:
        between = unsupported(new[0], old[1])
        fix = f"; take Kubernetes to a version that both support first, with Talos still at {old[0]}"
        found.append(("cluster.talos.version", f"{between}{fix}" if between else None))
    return [(where, reason) for where, reason in found if reason is not None]
