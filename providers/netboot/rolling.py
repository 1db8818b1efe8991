"""In which order a pool's machines take another image: one at a time, and nobody any more after one that failed."""

from __future__ import annotations

from providers.talos.rollout import Rollout, Step, of

_PHASE, _PART = 0, 0  # there is one thing to do to a machine


def step(rank: int, machine: str) -> Step:
    """The machine boots another image; the rank is its place in the settings."""
    return Step(_PHASE, _PART, rank, machine)


def order(ranks: dict[str, int]) -> list[str]:
    """The machines in the order in which they are rolled."""
    return [one.node for one in sorted(step(rank, name) for name, rank in ranks.items())]


def rollout(cluster: str) -> Rollout:
    """The roll-out of all pools of a cluster in this run: two pools don't take from it at once."""
    return of(f"pools of {cluster}", "restart")
