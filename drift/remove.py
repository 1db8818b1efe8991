"""Takes orphans out of the cluster: what nothing declares, what was seen twice, and never what would do harm.

A node's replicas move, its pods leave, then it leaves etcd; then slots go off, and its objects are deleted. A refusal
anywhere keeps that node as it is, and every slot on: it may be the one that it runs in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

from drift.findings import Finding, Kind, Report
from drift.hands import IN_CLUSTER, Hands
from drift.judge import STATE
from drift.sightings import seen_twice
from providers.errors import HomelabError

LOST = (Kind.POWER_OFF, Kind.NOT_ANSWERING)  # a node that is not where it is said to be


@dataclass(frozen=True)
class Choice:
    """Which orphans may go now, and why the others may not."""

    ripe: tuple[Finding, ...]
    waiting: tuple[str, ...]


@dataclass
class Outcome:
    """What was taken away, and what was not."""

    removed: list[Finding] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def told(self, name: str, step: Callable[[], None]) -> bool:
        """Take a step; says whether it could be taken, and notes why not."""
        try:
            step()
        except HomelabError as error:
            self.refused.append(f"{name} stays: {error}")
            return False
        return True


def choose(report: Report, now: datetime, wait: timedelta) -> Choice:
    """Which orphans may go: seen twice, far enough apart, and named by nobody."""
    if any(silent.name == STATE for silent in report.unasked):
        return Choice((), (f"{STATE} could not be read, so nobody knows what it declares: nothing is removed",))
    reasons = {finding.key: _why_not(finding, now, wait) for finding in report.orphans}
    held = {finding.name for finding in report.orphans if reasons[finding.key]}
    ripe, waiting = [], []
    for finding in report.orphans:
        reason = reasons[finding.key] or _why_not_yet(finding, report, held)
        if reason:
            waiting.append(f"{finding.name} ({finding.kind}) stays: {reason}")
        else:
            ripe.append(finding)
    return Choice(tuple(ripe), tuple(waiting))


def _why_not(finding: Finding, now: datetime, wait: timedelta) -> str:
    """What is against it by itself."""
    if finding.declared:
        return "the settings name it"
    if seen_twice(finding, now, wait):
        return ""
    left = wait - (now - (finding.first_seen or now))
    return f"it was not there long enough; run this again in {max(1, math.ceil(left.total_seconds()))} s"


def _why_not_yet(finding: Finding, report: Report, held: Collection[str]) -> str:
    """What else was found that is against it: it may be the same machine."""
    if finding.kind in IN_CLUSTER:
        return "more of it was found only now" if finding.name in held else ""
    off = next((other.name for other in report.findings if other.kind in LOST), None)
    if off is not None:
        return f"{off} is missing, and its module may be in it; repair that first"
    if any(report.hides(f"{kind}/") for kind in IN_CLUSTER):
        return "the cluster could not be asked, so nobody knows what runs in it"
    return "other orphans stay, and may run in it" if held else ""


def remove(hands: Hands, chosen: Sequence[Finding]) -> Outcome:
    """Remove what was chosen; what is refused stays, and is told."""
    outcome = Outcome()
    freed: list[Finding] = []
    for name in dict.fromkeys(finding.name for finding in chosen if finding.kind in IN_CLUSTER):
        own = tuple(finding for finding in chosen if finding.name == name and finding.kind in IN_CLUSTER)
        if outcome.told(name, partial(hands.free, name, own)):
            freed += own
    for slot in (finding for finding in chosen if finding.kind is Kind.ORPHAN_SLOT):
        if outcome.refused:
            outcome.refused.append(f"{slot.name} stays on: what was not removed may run in it")
        elif outcome.told(slot.name, partial(hands.switch_off, slot.name)):
            outcome.removed.append(slot)
    for finding in freed:
        if outcome.told(finding.name, partial(hands.forget, finding)):
            outcome.removed.append(finding)
    return outcome
