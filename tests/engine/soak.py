"""Random verbs on a twin, for a while of its own time, and what must hold after each of them.

The seed and what came of each verb decide all that follows, so a run is repeated by its seed; the sequence is printed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Any, Self

from providers.errors import HomelabError
from providers.talos import leave
from providers.talos.leave import Etcd
from tests.engine import volume
from tests.engine.sandbox import ROOT, Run
from tests.faults.house import House, module

CONTROL_PLANES = ("node1", "node2", "node3")
NODES = (*CONTROL_PLANES, "node4")
CUT_S = (30, 300)  # device seconds without power
KILL = (2, 12)  # events of the twin after which a run is killed
BEFORE, AFTER = "v1.13.8", "v1.13.9"
SETTLE_S = 240.0
PATIENCE_S = 400.0
# How often each verb is wished for, where it is possible.
WEIGHTS = {
    "up": 1, "remove": 4, "readd": 4, "cut": 3, "cut in up": 2, "kill up": 3, "kill remove": 2, "forget": 1,
    "copy": 1, "restore": 1, "upgrade": 2,
}  # fmt: skip
REFUSALS = ("stays:", "is not taken out:")


def can_upgrade() -> bool:
    """Whether this program rolls new versions out; it has a runbook then."""
    return (ROOT / "docs" / "runbooks" / "upgrade.md").is_file()


@dataclass(frozen=True)
class Verb:
    """One verb of the sequence: what, to which node, and how much (device seconds, or events)."""

    name: str
    node: str = ""
    amount: int = 0

    def __str__(self) -> str:
        return " ".join(str(word) for word in (self.name, self.node, self.amount) if word)


@dataclass
class Known:
    """What the soak knows of the lab, and so what it may ask for."""

    upgrades: bool = False
    out: set[str] = field(default_factory=set)
    upgraded: bool = False

    @property
    def here(self) -> list[str]:
        """The nodes that are in."""
        return [node for node in NODES if node not in self.out]

    def may_lose_power(self) -> list[str]:
        """Nodes whose power cut does not by itself cost the quorum, which would be nobody's fault but the soak's."""
        whole = not self.out & set(CONTROL_PLANES)
        return [node for node in self.here if whole or node not in CONTROL_PLANES]

    def possible(self) -> dict[str, list[str]]:
        """Each verb that makes sense now, with the nodes that it can be asked for."""
        cuts, anybody = self.may_lose_power(), [""]
        return {
            "up": anybody,
            "remove": self.here,
            "readd": anybody if self.out else [],
            "cut": cuts,
            "cut in up": cuts if self.out else [],
            "kill up": anybody if self.out else [],
            "kill remove": self.here if len(self.here) > 2 else [],
            "forget": anybody,
            "copy": anybody,
            "restore": [] if self.out else anybody,  # it wants every control plane
            "upgrade": anybody if self.upgrades and not self.upgraded and not self.out else [],
        }


def choose(chance: Random, known: Known) -> Verb:
    """The next verb."""
    possible = {name: nodes for name, nodes in known.possible().items() if nodes}
    name = chance.choices(list(possible), [WEIGHTS[name] for name in possible])[0]
    node = chance.choice(possible[name])
    low, high = {"cut": CUT_S, "cut in up": CUT_S, "kill up": KILL, "kill remove": KILL}.get(name, (0, 0))
    return Verb(name, node, chance.randint(low, high))


class Quorum:
    """Looks at etcd again and again; `lost` are the moments at which two looks in a row found no majority.

    A single look proves nothing: who leaves is a member that does not answer, for a moment.
    """

    def __init__(self, look: Callable[[], Etcd | None], every_s: float = 0.5) -> None:
        self._look, self._every_s = look, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._bad = 0
        self.lost: list[str] = []
        self.looks = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(60)

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self.take(self._look())
            except HomelabError as error:
                self.lost.append(f"could not look: {error}")
            self._stop.wait(self._every_s)

    def take(self, etcd: Etcd | None) -> None:
        """Count one look; None says that nobody answered."""
        self.looks += 1
        members = {one.hostname for one in etcd.members if not one.learner} if etcd else set()
        healthy = members & etcd.healthy if etcd else set()
        fine = bool(members) and len(healthy) >= len(members) // 2 + 1
        self._bad = 0 if fine else self._bad + 1
        if self._bad == 2:
            self.lost.append(f"{sorted(healthy)} of {sorted(members)} answer")


def harm(events: list[dict[str, Any]], verb: Verb, already: set[str]) -> list[str]:
    """What must never be among the twin's events of a verb.

    Args:
        events: since the verb began.
        verb: which.
        already: the modules that were flashed before.
    """
    kinds = Counter(str(event["kind"]) for event in events)
    flashed = sorted({str(event["node"]) for event in events if event["kind"] == "flash_started"} & already)
    restores = int(verb.name == "restore")
    found = [f"{', '.join(flashed)} flashed, and nobody asked for it"] if flashed else []
    if kinds["longhorn_volume_lost"]:
        found.append("a volume lost its last replica")
    if kinds["longhorn_replica_lost"] and not restores:  # it wipes what is on control planes, and says so
        found.append(f"{kinds['longhorn_replica_lost']} replicas lost")
    if kinds["bootstrapped"] > restores:
        found.append("etcd was bootstrapped again")
    return found


class Lab(House):
    """The lab that is soaked."""

    known: Known
    copies = 0

    def furnish(self, known: Known, *, storage: bool, scale: float) -> None:
        """Give it its time, its first version, and Longhorn with a volume if that is wanted."""
        self.known = known
        self.change_lab(lambda lab: lab.update(scale=scale))
        if known.upgrades:
            self.change_settings(lambda config: config["homelab:cluster"]["talos"].update(version=BEFORE))
        if storage:
            volume.furnish(self)

    def etcd(self) -> Etcd | None:
        """As whichever control plane answers sees it."""
        here = {node: self.address(node) for node in CONTROL_PLANES}
        return leave.observe(here, self.cert)

    def play(self, verb: Verb) -> str:
        """Do a verb; gives what came of it, in a word."""
        return str(getattr(self, f"_{verb.name.replace(' ', '_')}")(verb))

    def _up(self, _: Verb) -> str:
        self.up().ok()
        self.known.out.clear()
        return "done"

    _readd = _up

    def _remove(self, verb: Verb) -> str:
        return self._left(verb.node, self.run("destroy-target", verb.node, "--yes"))

    def _left(self, node: str, done: Run) -> str:
        if done.code and any(f"{node} {word}" in done.output for word in REFUSALS):
            return "refused"
        if f"no node or part '{node}'" not in done.output:
            done.ok()
        self.known.out.add(node)
        return "done"

    def _cut(self, verb: Verb) -> str:
        self.fault("power-cut", node=module(verb.node), for_s=verb.amount)
        return "done"

    def _cut_in_up(self, verb: Verb) -> str:
        run = self.start("up", "--yes")
        time.sleep(1)
        self.fault("power-cut", node=module(verb.node), for_s=verb.amount)
        code = run.wait(PATIENCE_S)
        self._up(verb)
        return "done" if code == 0 else "done by the second up"

    def _kill_up(self, verb: Verb) -> str:
        killed = self._killed(verb.amount, "up", "--yes")
        self._up(verb)
        return killed

    def _kill_remove(self, verb: Verb) -> str:
        killed = self._killed(verb.amount, "destroy-target", verb.node, "--yes")
        return f"{killed}, {self._left(verb.node, self.run('destroy-target', verb.node, '--yes'))}"

    def _killed(self, events: int, *arguments: str) -> str:
        mark, run, end = self.mark(), self.start(*arguments), time.monotonic() + PATIENCE_S
        while run.poll() is None:
            if self.mark() - mark >= events:
                self.kill(run)
                return f"killed after {self.events()[-1]['kind']}"
            if time.monotonic() > end:
                self.kill(run)
                raise AssertionError(f"{arguments} did not end\n{self.said()[-4000:]}")
            time.sleep(0.05)
        return "ended before"

    def _forget(self, verb: Verb) -> str:
        """The state is lost, and rebuilt by adoption; nodes that are out come back with it."""
        for path in (self.folder / ".homelab" / "state").glob(".pulumi/stacks/*/*"):
            path.unlink()
        return self._up(verb)

    def _copy(self, _: Verb) -> str:
        """The state is copied and put back."""
        copy = self._file("state.tar.gz")
        self.run("state", "backup", copy).ok()
        self.run("state", "restore", copy, "--yes").ok()
        return "done"

    def _restore(self, _: Verb) -> str:
        """Etcd is copied and put back."""
        copy = self._file("etcd.db")
        self.run("backup", copy).ok()
        self.run("restore", copy, "--yes", limit_s=2 * PATIENCE_S).ok()
        return "done"

    def _upgrade(self, verb: Verb) -> str:
        self.change_settings(lambda config: config["homelab:cluster"]["talos"].update(version=AFTER))
        self.known.upgraded = True
        return self._up(verb)

    def _file(self, name: str) -> str:
        self.copies += 1
        return str(self.folder / f"{self.copies}-{name}")

    def settle(self) -> list[str]:
        """Wait until who is in is Ready and votes; what is not so after that time is a problem."""
        end = time.monotonic() + SETTLE_S
        while (wrong := self.unsettled()) and time.monotonic() < end:
            time.sleep(1)
        return wrong

    def unsettled(self) -> list[str]:
        """What is not as it should be now."""
        ready = self.ready()
        wrong = [f"{node} is not Ready" for node in self.known.here if not ready[node]]
        etcd, wanted = self.etcd(), set(self.known.here) & set(CONTROL_PLANES)
        voters = {one.hostname for one in etcd.members if not one.learner} if etcd else set()
        if voters != wanted or not etcd or not wanted <= etcd.healthy:
            wrong.append(f"etcd's members are {sorted(voters)}, not {sorted(wanted)}, or not all are healthy")
        on = [node for node in self.known.out if self.machine(node)["power"]]
        return [*wrong, *(f"{node} is out and has power" for node in on)]


def soak(lab: Lab, seed: int, hours: float, least: int, scale: float) -> list[str]:
    """Soak a lab that is up.

    Args:
        lab: furnished, and converged.
        seed: of the sequence.
        hours: of twin time.
        least: as many verbs at least, however long they take.
        scale: real seconds of a device second.

    Returns:
        The sequence.

    Raises:
        AssertionError: something did not hold; with the seed and the sequence.
    """
    chance, began, sequence = Random(seed), time.monotonic(), list[str]()
    while (spent_h := (time.monotonic() - began) / scale / 3600) < hours or len(sequence) < least:
        verb = choose(chance, lab.known)
        sequence.append(f"{len(sequence) + 1}. {spent_h:.2f} h: {verb}")
        print(sequence[-1], flush=True)
        wrong = step(lab, verb, sequence)
        if wrong:
            raise AssertionError("\n".join([*wrong, f"HOMELAB_SOAK_SEED={seed} HOMELAB_SOAK_HOURS={hours}", *sequence]))
    return sequence


def step(lab: Lab, verb: Verb, sequence: list[str]) -> list[str]:
    """One verb and what must hold after it; gives what does not."""
    mark = lab.mark()
    already = {str(event["node"]) for event in lab.events("flash_done")}
    with Quorum(lab.etcd) as quorum:
        try:
            sequence[-1] += f": {lab.play(verb)}"
        except AssertionError as error:
            return [f"{verb}: {error}"]
        wrong = lab.settle()
    if verb.name != "restore":  # which ends etcd on purpose
        wrong += [f"the quorum was lost: {moment}" for moment in quorum.lost]
    wrong += harm(lab.events()[mark:], verb, already)
    if not wrong and not lab.known.out:
        done = lab.preview_unchanged()
        wrong += [] if done.code == 0 else [f"it does not converge to no change:\n{done.output[-3000:]}"]
    return wrong
