"""`homelab drift`: what differs between the settings and the lab, asked directly; orphans go only when asked, twice."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from cli import observe, stacks, words
from cli.engine import Engine
from cli.observe import Lab
from cli.options import Json, StackName, Yes
from cli.restore import Said
from cli.stacks import Stack
from drift import remove as removal
from drift import sightings, textfile
from drift.applied import Applied, read
from drift.findings import Finding, Report
from drift.hands import LabHands
from drift.judge import Declared, judge
from drift.look import look
from drift.objects import Silence
from providers import locks as held
from providers.deadline import Deadline
from providers.errors import HomelabError
from providers.talos.secrets import read_talosconfig

DRIFT = 3  # 2 is what a mistyped option gives
NOTED = "drift.json"
LOCK_S = 60.0


def command(
    stack: StackName = "twin",
    as_json: Json = False,
    metrics: Annotated[
        Path | None, typer.Option("--textfile", help="Also write the findings for the node exporter, as FILE.prom.")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Take orphans out that were seen before, 10 minutes ago or more. It asks.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Say what differs between the settings and the lab: changed by hand, missing, or there and declared by nobody.

    It asks boards, nodes, etcd and Kubernetes directly, and changes nothing without --remove. What gives no answer is
    named, and is no drift. Exit codes: 0 nothing differs, 3 something does, 1 it could not be found out.
    """
    chosen = stacks.find(stack)
    os.environ.setdefault("HOMELAB_TIME_SCALE", str(chosen.time_scale))
    Engine(chosen).refuse_running()  # what it is about to do would be taken for drift
    lab, now = with_keys(observe.open_lab(chosen)), datetime.now(UTC)
    report = examine(lab, now)
    removed = _removed(lab, report, now, yes=yes) if remove else ()
    report = replace(report, findings=tuple(found for found in report.findings if found not in removed))
    if metrics is not None:
        textfile.write(metrics, report, now)
    if as_json:
        told = tuple(f"{finding.kind}/{finding.name}" for finding in removed)
        print(json.dumps(report.as_json(chosen.name, lab.settings.cluster.name, now, told), indent=2))
    else:
        show(report, words.console())
    if report.findings or report.blind:
        raise typer.Exit(DRIFT if report.findings else 1)


def with_keys(lab: Lab) -> Lab:
    """The lab with the keys of its state, on a machine where no `up` has left any: a nightly runner's."""
    if lab.certificate is not None and lab.kubeconfig is not None:
        return lab
    try:
        outputs = Engine(lab.stack).outputs()
    except HomelabError:
        return lab  # what can't be asked without them is told so
    kubeconfig, talosconfig = outputs.get("kubeconfig"), outputs.get("talosconfig")
    certificate = read_talosconfig(talosconfig) if talosconfig else None
    return replace(lab, kubeconfig=lab.kubeconfig or kubeconfig, certificate=lab.certificate or certificate)


def examine(lab: Lab, now: datetime) -> Report:
    """Look at everything, and note the orphans that were seen."""
    applied = _applied(lab.stack)
    known = applied if isinstance(applied, Applied) else None
    report = judge(Declared(lab.stack.name, lab.settings, applied), look(lab, known))
    Engine(lab.stack).refuse_running()  # one that began meanwhile
    path = lab.stack.folder / NOTED
    before = sightings.read(path)
    seen = sightings.noted(before, report, now)
    if seen != before:
        sightings.write(path, seen)
    return sightings.dated(report, seen)


def _applied(stack: Stack) -> Applied | Silence:
    try:
        return read(Engine(stack).deployment())
    except HomelabError as error:
        return Silence(str(error))


def _removed(lab: Lab, report: Report, now: datetime, *, yes: bool) -> tuple[Finding, ...]:
    choice = removal.choose(report, now, sightings.apart())
    for line in choice.waiting:
        words.say(line)
    if not choice.ripe:
        words.say("nothing is removed")
        return ()
    words.say(f"these go from {lab.stack.name} ({words.lab_kind(lab.stack)}), and nothing else does:")
    for finding in choice.ripe:
        words.say(f"  - {finding.name} ({finding.kind}): {finding.what}")
    words.confirm("Take them out?", yes=yes)
    return _taken_out(lab, choice.ripe)


def _taken_out(lab: Lab, ripe: Sequence[Finding]) -> tuple[Finding, ...]:
    """One at a time with every other run that changes who is in the cluster."""
    said, peers = Said(), ",".join(sorted(lab.control_planes))
    with held.held(f"membership of {peers}", "removing orphans", Deadline(LOCK_S), said.progress):
        outcome = removal.remove(LabHands(lab, said), ripe)
    for line in outcome.refused:
        words.say(line)
    return tuple(outcome.removed)


def show(report: Report, out: Console) -> None:
    """The findings for people: each with what to type."""
    for finding in report.findings:
        seen = f" (first seen {finding.first_seen:%Y-%m-%d %H:%M:%S} UTC)" if finding.first_seen else ""
        out.print(
            Text(f"{finding.kind}  ", style="red") + Text(f"{finding.name}: {finding.what}{seen}"), soft_wrap=True
        )
        for line in finding.repair:
            out.print(Text(f"  -> {line}"), soft_wrap=True)
    for silent in report.unasked:
        out.print(Text("not asked  ", style="yellow") + Text(f"{silent.name}: {silent.why}"), soft_wrap=True)
    if report.blind:
        out.print(Text("nothing is known: is this machine in the lab's network?", style="yellow"))
    elif not report.findings:
        out.print(Text("no drift" if not report.unasked else "no drift in what could be asked"))
