"""`homelab rehearse`: a change, done for real on a twin that was what another commit says."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from cli import credentials, rehearse_stage, stacks, twin_of, words
from cli.api_gap import ApiGap
from cli.options import Json
from cli.rehearse_stage import Side, Stage
from cli.stacks import Stack
from providers.errors import HomelabError, UserError

NETWORK = 13  # a twin of `homelab twin-of` may run beside it

Base = Annotated[str, typer.Option(help="The commit, branch or tag whose settings the lab has now.")]
Real = Annotated[str, typer.Option("--stack", "-s", help="The real lab's stack.")]
Keep = Annotated[
    bool, typer.Option("--keep", help="Leave the twin running, to look at it; the next rehearsal ends it.")
]


@dataclass(frozen=True)
class Outcome:
    """What a change did to the twin.

    Attributes:
        base: the commit that it began with.
        ok: whether the change went through.
        base_s: how long it took to make the twin what the base says.
        change_s: how long the change took. Both in real seconds; the twin's devices run faster than real ones.
        gap_s: the longest time without an answer of the Kubernetes API at its VIP while the change ran.
        reboots: node -> how often it booted.
        flashed: node -> how often its disk was written.
        scale: real seconds for a device second.
    """

    base: str
    ok: bool
    base_s: float
    change_s: float
    gap_s: float
    reboots: Mapping[str, int] = field(default_factory=dict)
    flashed: Mapping[str, int] = field(default_factory=dict)
    scale: float = 1.0


def command(base: Base = "main", stack: Real = "homelab", keep: Keep = False, as_json: Json = False) -> None:
    """Do a change for real on a twin: bring it to the state of another commit, then apply the settings as they are now.

    It says how long that took, which nodes were rebooted or written, and for how long the Kubernetes API was away.
    Exit code 1: the change did not go through. It needs no secret and never touches the lab, nor its state.
    """
    real = stacks.find(stack)
    if real.is_twin:
        raise UserError(f"stack {stack} is a twin; rehearse a real lab's settings, such as homelab")
    name = f"{stack}-rehearsal"
    end(real.root, name)
    stage = rehearse_stage.build(real.root, base, name)
    try:
        outcome = play(stage, stack)
    finally:
        if not keep:
            end(real.root, name)
    _tell(outcome, as_json=as_json)
    if not outcome.ok:
        raise typer.Exit(1)


def play(stage: Stage, real: str) -> Outcome:
    """Rehearse: both twins are written, the base is made, the change is applied and watched.

    Raises:
        HomelabError: the base does not come up, so that there is nothing to change.
    """
    modules = _write(stage, real)
    words.say(f"the twin becomes what {stage.commit[:12]} says")
    began = time.monotonic()
    if stage.base.run("up") != 0:
        raise HomelabError(f"rehearsal: the twin did not become what {stage.commit[:12]} says; see above")
    base_s = time.monotonic() - began
    words.say(f"it took {base_s:.0f} s; now the change")
    return _change(stage, modules, base_s)


def _change(stage: Stage, modules: Mapping[str, str], base_s: float) -> Outcome:
    journal = stage.change.stack.twin_state / "events.jsonl"
    before = len(_events(journal))
    began = time.monotonic()
    with ApiGap(credentials.kubeconfig(stage.base.stack) or "") as gap:
        code = stage.change.run("up")
    change_s = time.monotonic() - began
    events = _events(journal)[before:]
    return Outcome(
        base=stage.commit,
        ok=code == 0,
        base_s=base_s,
        change_s=change_s,
        gap_s=gap.longest_s,
        reboots=counted(events, "boot_started", modules),
        flashed=counted(events, "flash_done", modules),
        scale=stage.change.stack.time_scale,
    )


def counted(events: Iterable[Mapping[str, Any]], kind: str, modules: Mapping[str, str]) -> dict[str, int]:
    """How often something happened to each node.

    Args:
        events: of the twin's journal.
        kind: what happened, as the journal calls it.
        modules: the twin's module -> node.
    """
    found = Counter(str(event.get("node")) for event in events if event.get("kind") == kind)
    return {modules.get(module, module): count for module, count in sorted(found.items())}


def _write(stage: Stage, real: str) -> dict[str, str]:
    """Write both sides' settings over one hardware, which has what either side needs; gives its module -> node."""
    name = stage.base.name
    base = twin_of.of(Stack(real, stage.base.root), name=name, network=NETWORK)
    change = twin_of.of(Stack(real, stage.change.root), base.hardware, name, NETWORK, base.notes)
    for side, made in ((stage.base, base), (stage.change, change)):
        _fresh(side)
        twin_of.save(twin_of.Written(name, made.settings, change.hardware, made.notes), side.root)
    for note in change.notes.lines():
        words.say(note)
    return {**_modules(base.settings), **_modules(change.settings)}


def _fresh(side: Side) -> None:
    """A file of that name in the commit would be somebody else's; on this stage it is not."""
    side.stack.settings_file.unlink(missing_ok=True)
    side.stack.lab_file.unlink(missing_ok=True)


def _modules(text: str) -> dict[str, str]:
    """Module -> node, by where the settings say that it sits."""
    nodes = yaml.safe_load(text)["config"]["homelab:nodes"]
    return {f"module-{node['machine']['board']}-{node['machine']['slot']}": name for name, node in nodes.items()}


def end(root: Path, name: str) -> None:
    """End the twin of a rehearsal, whichever side of it there is, and remove all that it made."""
    for side in (Side(root / rehearse_stage.FOLDER / part, name) for part in ("change", "base")):
        if side.stack.settings_file.is_file() and side.stack.twin_state.exists():
            if side.run("down") != 0:
                raise HomelabError(f"rehearsal: its twin does not end; see above, and {rehearse_stage.FOLDER}")
            break
    rehearse_stage.clear(root)


def _events(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _tell(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(outcome), indent=2))
        return
    rows = [
        ("went through", "yes" if outcome.ok else "no"),
        ("took", f"{outcome.change_s:.0f} s, with devices {1 / outcome.scale:.0f} times as fast as real ones"),
        ("rebooted", _listed(outcome.reboots)),
        ("written", _listed(outcome.flashed)),
        ("longest API gap", f"{outcome.gap_s:.1f} s"),
    ]
    words.console().print(words.table(("the change", "on the twin"), rows))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{node} {count}x" if count > 1 else node for node, count in counts.items()) or "nobody"
