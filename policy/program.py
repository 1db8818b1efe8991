"""The rules held in the Pulumi program, so that they hold for `pulumi up` and `pulumi preview` as well as for ours."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pulumi

from policy import backups, known, load
from policy.load import NAME, Rules
from policy.models import Reaction
from policy.rules import Breach, Facts, breaches, is_simulated, upgrades
from providers.errors import HomelabError
from settings import Settings, SettingsError, stack_file
from settings.problems import Where, dotted
from settings.yamlfile import Document, parse

LOCAL = ".homelab"


def hold(lab: Settings) -> None:
    """Stop the program when what is wished breaks a rule; warn of what a rule only warns of.

    Raises:
        pulumi.RunError: with every broken rule at once; nothing was touched.
    """
    stack = pulumi.get_stack()
    file = stack_file(stack)
    try:
        rules = load.load(file.parent / NAME)
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None  # the engine prints this one without a traceback
    if not rules.policy.is_for(stack):
        return
    found = breaches(rules.policy, lab, _facts(rules, lab, stack))
    if not found:
        return
    settings = Lines(file.name, parse(file.read_text(encoding="utf-8")) if file.is_file() else Document())
    for line in told(found, Reaction.WARN, rules, settings):
        pulumi.log.warn(line)
    if refused := told(found, Reaction.REFUSE, rules, settings):
        raise pulumi.RunError(refusal(refused))


def refusal(lines: Iterable[str]) -> str:
    """All that is refused, a line each."""
    every = list(lines)
    count = f"{len(every)} rule{'s' if len(every) > 1 else ''}"
    return f"{NAME}: {count} broken; nothing was touched\n" + "\n".join(f"  {line}" for line in every)


def _facts(rules: Rules, lab: Settings, stack: str) -> Facts:
    """What rules about changes need. Nobody is asked for what no rule is on for."""
    now, policy = datetime.now(UTC), rules.policy
    if not policy.asks_the_state:
        return Facts(None, None, now)
    try:
        there = known.ask(stack)
    except HomelabError as error:
        return _unknown(error, now)
    hours = policy.backups.max_age_hours
    if hours is None or is_simulated(lab) or not upgrades(lab, there):
        return Facts(there, None, now)
    folder, after = Path(LOCAL) / stack, now - timedelta(hours=hours)
    away = pulumi.runtime.is_dry_run() and not (folder / "kubeconfig").exists()
    return Facts(there, backups.newest(folder, lab.cluster.name, now, after), now, away)


def _unknown(error: HomelabError, now: datetime) -> Facts:
    """A preview away from the state goes on without the rules about changes; what changes something does not."""
    message = f"{NAME}: what is there is not known, so wipe and backups can't be judged: {error}"
    if not pulumi.runtime.is_dry_run():
        raise pulumi.RunError(message)
    pulumi.log.warn(message)
    return Facts(None, None, now)


class Lines:
    """Where things stand in the settings file."""

    def __init__(self, name: str, document: Document) -> None:
        self._name = name
        self._document = document

    def place(self, where: Where) -> str:
        """`Pulumi.homelab.yaml line 12, platform.pools[0]`."""
        raw = ("config", f"homelab:{where[0]}", *where[1:]) if where else ()
        line = self._document.line(raw)
        return f"{self._name} line {line}, {dotted(where)}" if line else f"{self._name}, {dotted(where)}"


def told(found: Iterable[Breach], reaction: Reaction, rules: Rules, settings: Lines) -> list[str]:
    """The breaches of one reaction in words: rule, its place, what is wrong where, and how to mend it."""
    return [
        f"{dotted(breach.rule)} ({rules.place(breach.rule)}): {settings.place(breach.where)}: "
        f"{breach.message}; {breach.fix}"
        for breach in found
        if breach.reaction is reaction
    ]
