"""What differs between what was declared and what was seen. Pure: nothing is asked here.

Declared is what the settings say, as far as the state says that it was applied: what an `up` is still to make, or still
to take away, is no drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from drift.applied import Applied, Object, Release
from drift.compare import differences
from drift.findings import LAB, Finding, Kind, Report, Unasked
from drift.helm import Record
from drift.look import Cluster, Seen
from drift.objects import Live, Silence
from providers.longhorn.scene import Scene
from providers.talos import wipe
from providers.talos.client import EtcdMember, Mode
from settings import Node, Settings

MOST_FIELDS = 12  # of an object that are told
STATE = "the stack's state"


@dataclass(frozen=True)
class Declared:
    """What should be.

    Attributes:
        stack: its name, for what to type.
        applied: what its state says; a `Silence` when that could not be read.
    """

    stack: str
    settings: Settings
    applied: Applied | Silence

    @property
    def state(self) -> Applied:
        """What the state says; nothing where it could not be read."""
        return Applied() if isinstance(self.applied, Silence) else self.applied

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that should be there now."""
        known = self.state.machines
        enabled = self.settings.enabled_nodes
        return enabled if isinstance(self.applied, Silence) else tuple(n for n in enabled if n.name in known)

    def expects(self, name: str) -> bool:
        """Whether the settings want a node of that name, or the state has one."""
        return name in self.state.machines or any(node.name == name for node in self.settings.enabled_nodes)

    def at(self, host: str) -> str | None:
        """The node with an address, wanted or disabled."""
        return next((node.name for node in self.settings.nodes.values() if str(node.address) == host), None)

    def slots(self, board: str) -> Mapping[int, str]:
        """Slot -> node of a board, by the settings and by the state."""
        url = self.settings.boards[board].url
        applied = {slot: name for name, (at, slot) in self.state.slots.items() if at == url}
        return applied | {node.slot: node.name for node in self.settings.nodes.values() if node.board == board}

    def moved(self, node: Node) -> bool:
        """Whether the settings have it in another slot than the one that was applied."""
        here = (self.settings.boards[node.board].url, node.slot)
        return self.state.slots.get(node.name, here) != here


def judge(declared: Declared, seen: Seen) -> Report:
    """All differences, and all that could not be asked."""
    if not seen.anything:
        away = Unasked(LAB, "nothing of it answers from here", ("",))
        return Report((), (away, *_state_unread(declared)))
    findings = chain(
        _nodes(declared, seen),
        _hosts(declared, seen),
        _membership(declared, seen),
        _objects(declared, seen),
        _orphans(declared, seen),
    )
    return Report(tuple(findings), tuple(_unasked(declared, seen)))


# -- nodes ------------------------------------------------------------------------------------------------------


def _nodes(declared: Declared, seen: Seen) -> Iterator[Finding]:
    for node in declared.nodes:
        off = _is_off(declared, node, seen)
        if off:
            yet = ", and yet it answers: was its module moved?" if seen.modes.get(node.name) is Mode.OURS else ""
            what = f"slot {node.slot} of {node.board} is off{yet}"
            yield Finding(Kind.POWER_OFF, node.name, what, _again(declared))
        mode = seen.modes.get(node.name)
        if not isinstance(mode, Silence) and mode is not None and not off:
            yield from _mode(declared, node, mode)
        words = seen.configs.get(node.name, "")
        if mode is Mode.OURS and isinstance(words, str) and words:
            yield Finding(Kind.CONFIG_CHANGED, node.name, words, _again(declared))


def _hosts(declared: Declared, seen: Seen) -> Iterator[Finding]:
    for name, words in seen.hosts.items():
        if isinstance(words, str) and words:
            yield Finding(Kind.HOST_CHANGED, name, words, _again(declared))


def _is_off(declared: Declared, node: Node, seen: Seen) -> bool:
    powers = seen.powers.get(node.board)
    return isinstance(powers, Mapping) and powers.get(node.slot) is False and not declared.moved(node)


def _mode(declared: Declared, node: Node, mode: Mode) -> Iterator[Finding]:
    at = str(node.address)
    if mode is Mode.MAINTENANCE:
        what = f"{at}: has lost its config: it waits in maintenance mode"
        yield Finding(Kind.MAINTENANCE, node.name, what, _again(declared))
    elif mode is Mode.FOREIGN:
        what = f"{at}: shows the certificate of another cluster; if all on it may go, wipe it"
        yield Finding(Kind.FOREIGN, node.name, what, (wipe.command(at), *_again(declared)))
    elif mode in (Mode.SILENT, Mode.REFUSED):
        what = f"{at}: {'no answer' if mode is Mode.SILENT else 'its Talos API is not there'}"
        look = f"homelab doctor --stack {declared.stack}"
        yield Finding(Kind.NOT_ANSWERING, node.name, what, (look, *_out_and_back(declared, node.name)))


def _membership(declared: Declared, seen: Seen) -> Iterator[Finding]:
    joined = None if isinstance(seen.cluster, Silence) else {view.name for view in seen.cluster.nodes}
    etcd = None if isinstance(seen.etcd, Silence) else seen.etcd
    for node in declared.nodes:
        if joined is not None and node.name not in joined:
            yield Finding(Kind.NOT_IN_KUBERNETES, node.name, "the cluster has no Node of its name", _again(declared))
        if etcd is not None and node.is_control_plane and etcd.member(node.name, str(node.address)) is None:
            repair = _out_and_back(declared, node.name)
            yield Finding(Kind.NOT_IN_ETCD, node.name, "etcd does not list it as a member", repair)


# -- objects ----------------------------------------------------------------------------------------------------


def _objects(declared: Declared, seen: Seen) -> Iterator[Finding]:
    if isinstance(seen.cluster, Silence):
        return
    helms = {item: release for release, record in seen.cluster.releases for item in _made_by(record)}
    own = _again(declared)
    for release, record in seen.cluster.releases:
        yield from _release(release, record, own)
    for wanted, live in seen.cluster.objects:
        release_of = helms.get(wanted)
        yield from _object(wanted, live, own if release_of is None else _reapply(release_of))


def _object(wanted: Object, live: Live, repair: tuple[str, ...]) -> Iterator[Finding]:
    if isinstance(live, Silence):
        return
    if live is None:
        yield Finding(Kind.OBJECT_DELETED, str(wanted), f"of {wanted.part}: it was deleted", repair)
        return
    fields = differences(wanted.manifest, live)
    if fields:
        what = f"of {wanted.part}: changed by hand at {_listed(fields)}"
        yield Finding(Kind.OBJECT_CHANGED, str(wanted), what, repair, fields)


def _release(release: Release, record: Record | Silence | None, repair: tuple[str, ...]) -> Iterator[Finding]:
    name = f"Release/{release.namespace}/{release.name}"
    if record is None:
        yield Finding(Kind.RELEASE_CHANGED, name, f"of {release.part}: Helm does not know it any more", repair)
    elif not isinstance(record, Silence) and release.revision and record.revision != release.revision:
        what = f"of {release.part}: Helm has revision {record.revision}, and {release.revision} was applied"
        yield Finding(Kind.RELEASE_CHANGED, name, what, repair)


def _made_by(record: Record | Silence | None) -> tuple[Object, ...]:
    return record.objects if isinstance(record, Record) else ()


def _listed(fields: tuple[str, ...]) -> str:
    more = len(fields) - MOST_FIELDS
    return ", ".join(fields[:MOST_FIELDS]) + (f" and {more} more places" if more > 0 else "")


# -- orphans ----------------------------------------------------------------------------------------------------


def _orphans(declared: Declared, seen: Seen) -> Iterator[Finding]:
    if not isinstance(seen.etcd, Silence):
        for member in seen.etcd.members:
            yield from _member(declared, member)
    if not isinstance(seen.cluster, Silence):
        yield from _cluster_nodes(declared, seen.cluster)
    for board, powers in seen.powers.items():
        if not isinstance(powers, Silence):
            yield from _slots(declared, board, powers)


def _member(declared: Declared, member: EtcdMember) -> Iterator[Finding]:
    """One that has not started yet has no name, only the address that its peers know."""
    host = member_host(member)
    name = member.hostname or declared.at(host) or host or f"{member.id:x}"
    if not declared.expects(name):
        what = f"etcd lists it as member {member.id:x} at {host or 'no address'}"
        yield _orphan(declared, Kind.ORPHAN_ETCD_MEMBER, name, what, f"{member.id:x}")


def member_host(member: EtcdMember) -> str:
    """The address at which a member's peers reach it."""
    url = member.peer_urls[0] if member.peer_urls else ""
    return url.partition("//")[2].rpartition(":")[0]


def _cluster_nodes(declared: Declared, cluster: Cluster) -> Iterator[Finding]:
    for view in cluster.nodes:
        if not declared.expects(view.name):
            state = "Ready" if view.ready else "not Ready"
            yield _orphan(declared, Kind.ORPHAN_NODE, view.name, f"the cluster has a Node of it ({state})", view.uid)
    if isinstance(cluster.longhorn, Scene):
        for name in cluster.longhorn.nodes:
            if not declared.expects(name):
                held = len(cluster.longhorn.on(name))
                what = f"Longhorn lists it, with {held} replicas"
                yield _orphan(declared, Kind.ORPHAN_LONGHORN_NODE, name, what)


def _slots(declared: Declared, board: str, powers: Mapping[int, bool]) -> Iterator[Finding]:
    nodes = declared.slots(board)
    for slot in sorted(slot for slot, on in powers.items() if on):
        holder = nodes.get(slot)
        if holder is None:
            yield _orphan(declared, Kind.ORPHAN_SLOT, f"{board}/{slot}", "it is powered on, and holds no node")
        elif not declared.expects(holder):
            what = f"it is powered on, and {holder} in it is disabled"
            repair = (f"tpi power off --node {slot}",)
            yield Finding(Kind.ORPHAN_SLOT, f"{board}/{slot}", what, repair, declared=True)


def _orphan(declared: Declared, kind: Kind, name: str, what: str, identity: str = "") -> Finding:
    if name in declared.settings.nodes:
        own = f"{what}, and the settings have it disabled"
        return Finding(kind, name, own, _out_and_back(declared, name)[:1], identity=identity, declared=True)
    return Finding(kind, name, what, (f"homelab drift --remove --stack {declared.stack}",), identity=identity)


# -- words ------------------------------------------------------------------------------------------------------


def _again(declared: Declared) -> tuple[str, ...]:
    """What the engine notices, it repairs."""
    return (f"homelab refresh --stack {declared.stack}", f"homelab up --stack {declared.stack}")


def _out_and_back(declared: Declared, node: str) -> tuple[str, ...]:
    return (f"homelab destroy-target {node} --stack {declared.stack}", f"homelab up --stack {declared.stack}")


def _reapply(release: Release) -> tuple[str, ...]:
    """A release looks unchanged to the engine as long as Helm's own record of it is."""
    apply = "kubectl apply --server-side --force-conflicts -f -"
    return (f"helm -n {release.namespace} get manifest {release.name} | {apply}",)


# -- what could not be asked ------------------------------------------------------------------------------------


def _unasked(declared: Declared, seen: Seen) -> Iterator[Unasked]:
    yield from _state_unread(declared)
    for board, powers in seen.powers.items():
        if isinstance(powers, Silence):
            yield Unasked(board, powers.why, (f"{Kind.ORPHAN_SLOT}/{board}/",))
    for name, mode in seen.modes.items():
        if isinstance(mode, Silence):
            yield Unasked(name, mode.why)
    for name, words in seen.configs.items():
        if isinstance(words, Silence) and seen.modes.get(name) is Mode.OURS:
            yield Unasked(f"{name}'s config", words.why)
    for name, words in seen.hosts.items():
        if isinstance(words, Silence):
            yield Unasked(name, words.why)
    if isinstance(seen.etcd, Silence):
        yield Unasked("etcd", seen.etcd.why, (f"{Kind.ORPHAN_ETCD_MEMBER}/",))
    yield from _unasked_cluster(seen.cluster)


def _unasked_cluster(cluster: Cluster | Silence) -> Iterator[Unasked]:
    hidden = (f"{Kind.ORPHAN_NODE}/", f"{Kind.ORPHAN_LONGHORN_NODE}/")
    if isinstance(cluster, Silence):
        yield Unasked("Kubernetes", cluster.why, hidden)
        return
    if isinstance(cluster.longhorn, Silence):
        yield Unasked("Longhorn", cluster.longhorn.why, hidden[1:])
    for release, record in cluster.releases:
        if isinstance(record, Silence):
            yield Unasked(f"Release/{release.namespace}/{release.name}", record.why)
    for wanted, live in cluster.objects:
        if isinstance(live, Silence):
            yield Unasked(str(wanted), live.why)


def _state_unread(declared: Declared) -> Iterator[Unasked]:
    if isinstance(declared.applied, Silence):
        yield Unasked(STATE, declared.applied.why, ("orphan_",))
