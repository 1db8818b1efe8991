"""Whether etcd survives that a member leaves. Pure arithmetic; who is a member and who is healthy is the caller's."""

from __future__ import annotations

from collections.abc import Collection


def verdict(members: Collection[str], healthy: Collection[str], leaving: str) -> str | None:
    """Say why a member must not leave, or None when it may (4c.19, 4c.21).

    The rule: healthy members after the change >= members after the change / 2 + 1, the leaving one not counted, so
    that a dead one may leave. Besides, etcd must have a quorum now: the change is itself a write.

    Args:
        members: the voting members as etcd lists them, by node name. Learners do not vote and are not listed.
        healthy: those that answer; names that are not members do not count.
        leaving: a node's name. One that is no member may always leave.
    """
    voters = set(members)
    if leaving not in voters:
        return None
    after = voters - {leaving}
    if not after:
        return (
            f"{leaving} is the last control plane; what it runs ends with it (`homelab destroy` ends the whole cluster)"
        )
    now, later = len(voters & set(healthy)), len(after & set(healthy))
    if now < _majority(len(voters)):
        need, missing = _majority(len(voters)), _missing(voters, healthy)
        return (
            f"etcd has no quorum: {now} of {len(voters)} members are healthy, {need} are needed; "
            f"bring back {missing} first"
        )
    if later < _majority(len(after)):
        need, missing = _majority(len(after)), _missing(after, healthy)
        return (
            f"without {leaving}, {later} of {len(after)} etcd members would be healthy and {need} are needed; "
            f"bring back or take out {missing} first"
        )
    return None


def _majority(members: int) -> int:
    return members // 2 + 1


def _missing(members: Collection[str], healthy: Collection[str]) -> str:
    return ", ".join(sorted(set(members) - set(healthy)))
