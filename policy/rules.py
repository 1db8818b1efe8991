"""The rules: each looks at what is wished, and at what is known of the lab, and says what breaks it. Pure.

`breaches` is all of them. Those about changes are also usable alone, by whoever is about to make the change:
`upgrades` says what an upgrade would be, `stale_backup` whether it may begin, `wipes` what would be erased.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

from policy.known import Known
from policy.models import LEAVES, Policy, Reaction
from policy.pinned import floating
from settings import Settings
from settings.problems import Where
from settings.ranges import AddressRange

# What no router of the internet carries: RFC 1918, RFC 6598, RFC 3927, and this machine's own.
PRIVATE = tuple(
    AddressRange(network.network_address, network.broadcast_address)
    for network in map(
        IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8")
    )
)


@dataclass(frozen=True)
class Breach:
    """A rule that is broken.

    Attributes:
        rule: its place in `policy.yaml`.
        where: the place in the settings; empty where it is the whole lab.
        message: what is wrong.
        fix: how to mend it.
        reaction: what follows.
    """

    rule: Where
    where: Where
    message: str
    fix: str
    reaction: Reaction = Reaction.REFUSE


@dataclass(frozen=True)
class Facts:
    """What is known besides the settings.

    Attributes:
        known: the lab as it was last applied; None where nobody asked, or could.
        newest: when the newest backup of etcd was taken; None where there is none.
        now: the present.
        away: a preview where neither backups nor the cluster's own word can be known, such as a runner's: it warns.
    """

    known: Known | None
    newest: datetime | None
    now: datetime
    away: bool = False


def breaches(policy: Policy, wished: Settings, facts: Facts) -> tuple[Breach, ...]:
    """Everything that breaks a rule."""
    found = [
        *few_control_planes(policy, wished),
        *public_addresses(policy, wished),
        *floating_versions(policy, wished),
    ]
    if facts.known is not None:
        found += wipes(policy, wished, facts.known)
        if upgrades(wished, facts.known) and not is_simulated(wished):
            found += stale_backup(policy, facts.newest, facts.now, away=facts.away)
    return tuple(breach for breach in found if breach.reaction is not Reaction.ALLOW)


def few_control_planes(policy: Policy, wished: Settings) -> Iterator[Breach]:
    """At least so many control planes, in a lab that has nodes of Talos."""
    least, there = policy.control_planes.at_least, [node.name for node in wished.control_planes]
    if len(there) < least and (wished.nodes or not wished.hosts):
        named = f" ({', '.join(there)})" if there else ""
        message = f"{len(there)} control planes{named} where at least {least} are wanted"
        more = f"give {least - len(there)} more nodes the role controlplane"
        yield Breach(("control_planes", "at_least"), ("nodes",), message, f"{more}, or lower the rule")


def public_addresses(policy: Policy, wished: Settings) -> Iterator[Breach]:
    """No service gets an address that the internet routes."""
    rule = policy.load_balancers
    for index, pool in enumerate(wished.platform.pools):
        inside = any(_within(pool, allowed) for allowed in (*PRIVATE, *rule.allowed))
        if not inside:
            fix = "take a range of the LAN, or name it in load_balancers.allowed"
            message = f"{pool} has public addresses"
            yield Breach(("load_balancers", "public"), ("platform", "pools", index), message, fix, rule.public)


def _within(pool: AddressRange, other: AddressRange) -> bool:
    first: IPv4Address = other.first
    return first <= pool.first and pool.last <= other.last


def floating_versions(policy: Policy, wished: Settings) -> Iterator[Breach]:
    """Every version stays what it is."""
    fix = "write a version that stays, such as :1.29.1, or a digest"
    for where, message in floating(wished):
        yield Breach(("versions", "floating"), where, message, fix, policy.versions.floating)


def wipes(policy: Policy, wished: Settings, known: Known) -> Iterator[Breach]:
    """What would be erased without a word in the file."""
    if not policy.wipe.acknowledge:
        return
    said = policy.wipe.acknowledged
    for name, generation in _erased(wished, known):
        if said.get(name) != generation:
            message = f"erases the disk of {name} for generation {generation}"
            yield _unacknowledged(name, ("nodes", name, "generation"), message, str(generation))
    for name in _leaving(wished, known):
        if said.get(name) != LEAVES:
            yield _unacknowledged(name, ("nodes", name), f"takes {name} out and resets it", LEAVES)
    for name in sorted(known.stores):
        if not wished.platform.on(name) and said.get(name) != LEAVES:
            yield _unacknowledged(name, ("platform",), f"takes {name} away, and its volumes with it", LEAVES)


def _erased(wished: Settings, known: Known) -> Iterator[tuple[str, int]]:
    """Nodes whose disk is written over. For a new one, generation 1 spares whatever boots."""
    for node in wished.enabled_nodes:
        before = known.nodes.get(node.name)
        if node.generation > (before.generation if before is not None else 1):
            yield node.name, node.generation


def _leaving(wished: Settings, known: Known) -> list[str]:
    return sorted(known.nodes.keys() - {node.name for node in wished.enabled_nodes})


def _unacknowledged(name: str, where: Where, message: str, word: str) -> Breach:
    fix = f"if that is meant, write `{name}: {word}` under wipe.acknowledged"
    return Breach(("wipe", "acknowledge"), where, message, fix)


def upgrades(wished: Settings, known: Known) -> tuple[str, ...]:
    """What would be upgraded (or downgraded), in words: `Talos v1.12.1 -> v1.13.9 on node1, node2`."""
    talos, kubernetes = wished.cluster.talos.version, wished.cluster.kubernetes.version
    pairs: dict[str, list[str]] = {}
    for node in wished.enabled_nodes:
        before = known.nodes.get(node.name)
        if before is not None and before.talos not in ("", talos):
            pairs.setdefault(f"Talos {before.talos} -> {talos}", []).append(node.name)
        if before is not None and before.kubernetes not in ("", kubernetes):
            pairs.setdefault(f"Kubernetes {before.kubernetes} -> {kubernetes}", []).append(node.name)
        if before is not None and before.extensions not in (None, frozenset(wished.cluster.talos.extensions)):
            pairs.setdefault("other system extensions", []).append(node.name)
    return tuple(f"{change} on {', '.join(nodes)}" for change, nodes in pairs.items())


def is_simulated(wished: Settings) -> bool:
    """Whether the lab is on this very machine's own addresses: a twin's, on which an upgrade is tried out."""
    return all(node.address.is_loopback for node in wished.enabled_nodes)


def stale_backup(policy: Policy, newest: datetime | None, now: datetime, *, away: bool = False) -> Iterator[Breach]:
    """Whether an upgrade may begin, as far as backups go."""
    hours = policy.backups.max_age_hours
    if hours is None or (newest is not None and now - newest <= timedelta(hours=hours)):
        return
    seen = "no backup of etcd is known" if newest is None else f"the newest backup of etcd is {_age(now - newest)} old"
    message = f"{seen}, and an upgrade wants one of the last {hours} h"
    fix = "type `homelab backup`, then this again"
    reaction = Reaction.WARN if away and newest is None else Reaction.REFUSE
    yield Breach(("backups", "max_age_hours"), ("cluster",), message, fix, reaction)


def _age(age: timedelta) -> str:
    hours = age.total_seconds() / 3600
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"
