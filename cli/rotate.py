"""`homelab rotate`: a key or password exchanged for a new one, in steps that can be interrupted and taken up again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from cli import rotate_logins, rotate_prove, stacks, words
from cli.options import Json, StackName, Yes
from cli.rotate_runs import Held, HomelabRuns, Runs
from cli.stacks import Stack
from providers import locks
from providers.deadline import Deadline
from providers.errors import HomelabError, RefusedError, UserError
from providers.talos.rotation import STEPS, wish

LOCK_S = 1.0


@dataclass(frozen=True)
class Cost:
    """What a rotation takes from those who use the lab.

    Attributes:
        downtime: "none", or of what and how long.
        words: what happens, and what ends with the old key.
    """

    downtime: str
    words: str


COSTS = {
    "os-ca": Cost(
        "none", "the nodes' Talos APIs change their certificates, three times; talosconfigs of before end with it"
    ),
    "kubernetes-ca": Cost(
        "the API at the VIP: seconds, at most three times; programs in the cluster: minutes",
        "API servers restart one after the other, kubelets with them. Pods that talk to the API lose it with the "
        "second step, and are restarted; kubeconfigs of before end with it, people's too",
    ),
    "aggregator-ca": Cost(
        "the API at the VIP: seconds; metrics and other aggregated APIs: about a minute",
        "API servers restart one after the other",
    ),
    "service-account": Cost(
        "programs in the cluster that talk to the API: minutes",
        "every token is worthless at once, so every pod is restarted; Headlamp's logins change",
    ),
    "bootstrap-tokens": Cost(
        "none, but each node reboots once, one after the other",
        "needs cluster.talos.allow_reboot; only joining uses these tokens",
    ),
    "etcd-ca": Cost(
        "the API: minutes, until all control planes have booted together",
        "Talos can't let two authorities of etcd overlap. A snapshot is taken first. It lasts ten years: is it due?",
    ),
    "bmc-password": Cost("none", "you change it on the board; it is tried, and stored in the settings"),
    "grafana-password": Cost("Grafana: its restart", "a new one is made; `logins` shows it"),
}


def command(
    what: Annotated[str | None, typer.Argument(help="Which; without one they are listed.")] = None,
    stack: StackName = "twin",
    board: Annotated[str | None, typer.Option("--board", help="For bmc-password: which board.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="Say what each costs, and change nothing.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what the next step would change, and change nothing.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Exchange a key or a password of the lab for a new one. It asks first, and says what it costs.

    A certificate authority goes in steps: the new one is accepted everywhere, then it signs, then the old one is
    dropped. Each step is a `homelab up`, and is proven by old and new clients at every node before the next one. Run it
    again after it was interrupted: it goes on where it was; the keys in between are kept in the stack's state,
    encrypted. Exit codes: 0 done, 1 not done.
    """
    if listed or what is None:
        _list(as_json=as_json)
        return
    _known(what)
    chosen = stacks.find(stack)
    if preview:
        _preview(chosen, what)
        return
    if what == "bmc-password":
        rotate_logins.board(chosen, board)
    elif what == "grafana-password":
        rotate_logins.grafana(chosen, yes=yes)
    else:
        _keys(chosen, what, yes=yes)
    if as_json:
        print(json.dumps({"what": what, "done": True}))


def _list(*, as_json: bool) -> None:
    if as_json:
        steps = {what: [step.words for step in STEPS.get(what, ())] for what in COSTS}
        print(json.dumps([{"what": w, **asdict(cost), "steps": steps[w]} for w, cost in COSTS.items()], indent=2))
        return
    rows = ((what, cost.downtime, cost.words) for what, cost in COSTS.items())
    words.console().print(words.table(("what", "downtime", "what happens"), rows))


def _known(what: str) -> None:
    if what not in COSTS:
        raise UserError(f"no {what!r} to rotate; {stacks.suggestion(what, list(COSTS))}")


def _preview(stack: Stack, what: str) -> None:
    if what not in STEPS:
        raise UserError(f"--preview: {what} has no steps; `homelab rotate --list` says what happens")
    runs = HomelabRuns(stack)
    step = runs.held().rotation.step + 1
    words.say(f"{what}: step {step} of {len(STEPS[what])}" if step <= len(STEPS[what]) else f"{what}: its end")
    code = runs.preview(wish(what, step))
    if code:
        raise typer.Exit(code)


def _keys(stack: Stack, what: str, *, yes: bool) -> None:
    runs = HomelabRuns(stack)
    with locks.held(f"rotate {stack.name}", f"rotating {what}", Deadline(LOCK_S)):
        lab = rotate_prove.opened(stack)
        rotate_prove.refuse(lab, what)
        begin(what, runs)
        for line in story(what, runs.held()):
            words.say(f"  {line}")
        words.confirm(f"Rotate {what} ({words.lab_kind(stack)})?", yes=yes)
        carry_out(what, runs, lambda held: rotate_prove.prove(lab, held, words.say))
    words.say(f"{what}: done; the old one is worthless")


def begin(what: str, runs: Runs) -> None:
    """Refuse what can't be begun or gone on with.

    Raises:
        RefusedError: another rotation is under way, or the lab is not what its settings say.
    """
    under_way = runs.held().rotation.what
    if under_way not in ("", what):
        raise RefusedError(
            f"{under_way} is being rotated; finish that first: `homelab rotate {under_way} --stack {runs.stack}`"
        )
    if not under_way and not runs.converged():
        raise RefusedError(
            f"the lab is not what its settings say, and a rotation must not bring along other changes; "
            f"`homelab up --stack {runs.stack}` first"
        )


def story(what: str, held: Held) -> list[str]:
    """What will happen, line by line."""
    cost, taken = COSTS[what], held.rotation.step
    steps = [f"{'done' if n <= taken else 'step'} {n}: {step.words}" for n, step in enumerate(STEPS[what], 1)]
    return [f"downtime: {cost.downtime}", cost.words, *steps]


def carry_out(what: str, runs: Runs, prove: rotate_prove.Proof) -> None:
    """Take all steps that are left, each proven before the next.

    Raises:
        HomelabError: a step did not come to its end, or its proof failed; running it again goes on from there.
    """
    held, last = runs.held(), len(STEPS[what])
    if held.rotation.under_way:
        words.say(f"{what}: step {held.rotation.step} was taken; finishing it on every node")
        _finish(what, runs)
        prove(runs.held())
    for step in range(held.rotation.step + 1, last + 1):
        words.say(f"{what}: step {step} of {last}: {STEPS[what][step - 1].words}")
        runs.up(wish(what, step))
        held = runs.held()
        if (held.rotation.what, held.rotation.step) != (what, step):
            raise HomelabError(f"{what}: step {step} was not taken; the stack's state holds {held.rotation.step}")
        prove(held)
    runs.up(wish(what, last + 1))


def _finish(what: str, runs: Runs) -> None:
    try:
        runs.up("")
    except HomelabError:
        # With etcd apart nothing in the cluster can be previewed; the nodes had been given everything before that.
        if what != "etcd-ca":
            raise
        words.say("the cluster does not answer; going on with its control planes")
