"""The verbs of the `homelab` command. What they do is in the modules beside; here is what they are called."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cli import (
    adopt,
    backup,
    cards,
    credentials,
    drift,
    image,
    init,
    kubeconfig,
    leaving,
    mirror,
    observe,
    preview_report,
    rehearse,
    report,
    restore,
    rotate,
    stacks,
    state,
    twin,
    twin_of,
    watch,
    words,
)
from cli import doctor as doctors
from cli.archive import State
from cli.engine import Engine
from cli.interrupted import interrupted
from cli.observe import Lab
from cli.options import Cluster, Json, StackName, Yes
from cli.stacks import Stack
from providers.dynamic import lazily
from providers.errors import HomelabError, RefusedError, UserError

if TYPE_CHECKING:
    from cli import backup_hosts, restore_k3s
else:  # no other verb needs what they import
    backup_hosts, restore_k3s = (lazily(f"cli.{name}") for name in ("backup_hosts", "restore_k3s"))

THROUGH = {"allow_extra_args": True}
# The engine's own limit follows the cores of this machine; what is waited for here are devices.
WIDE = "--parallel=512"


class Homelab(TyperGroup):
    """Prints an error of ours as one line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except HomelabError as exc:
            words.error(str(exc))
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Homelab,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From bare Turing Pi 2 boards to a Ready Kubernetes cluster, and one node out and back.",
)


@app.command(context_settings=THROUGH)
def up(ctx: typer.Context, stack: StackName = "twin", yes: Yes = False) -> None:
    """Take the lab to what its settings say, from wherever it is.

    Installs, configures and joins what is missing, and leaves `.homelab/kubeconfig` and `.homelab/talosconfig`.
    Run it again after it was interrupted: it goes on where it was. It never writes a disk that the settings do not
    release by `generation`, and never flashes a node that already runs. What follows `--` goes to `pulumi up`.
    """
    chosen = stacks.find(stack)
    answer = _answer(chosen, yes=yes)
    engine = _prepared(chosen, "up")
    _run(engine, "up", "--suppress-outputs", WIDE, *answer, *ctx.args)
    for path in credentials.leave(chosen, engine.outputs()):
        words.say(f"wrote {path.relative_to(chosen.root)}")
    words.show(observe.observe(observe.open_lab(chosen)))


@app.command(context_settings=THROUGH)
def preview(ctx: typer.Context, stack: StackName = "twin") -> None:
    """Show what `up` would do. It changes nothing, and needs no lab that answers.

    What follows `--` goes to `pulumi preview`, such as `--diff` or `--expect-no-changes`.
    """
    chosen = stacks.find(stack)
    engine = Engine(chosen)
    engine.require_passphrase()
    engine.select()
    for sentence in interrupted(engine, "preview", engine.export()):
        words.say(sentence)
    _run(engine, "preview", *ctx.args)


@app.command(context_settings=THROUGH)
def refresh(ctx: typer.Context, stack: StackName = "twin", yes: Yes = False) -> None:
    """Look at the lab and note what has drifted; the next `up` repairs it. It changes no device.

    What follows `--` goes to `pulumi refresh`.
    """
    chosen = stacks.find(stack)
    answer = _answer(chosen, yes=yes)
    _run(_prepared(chosen, "refresh"), "refresh", WIDE, *answer, *ctx.args)


@app.command(context_settings=THROUGH)
def destroy(ctx: typer.Context, stack: StackName = "twin", yes: Yes = False) -> None:
    """End the cluster: every node is reset and powered off. It asks first.

    What the cluster stored is lost. Boot images stay on the disks, and nothing outside the settings is touched. It
    works with every API down.
    """
    chosen = stacks.find(stack)
    words.confirm(f"End cluster and data of stack {chosen.name} ({words.lab_kind(chosen)})?", yes=yes)
    engine = _prepared(chosen, "destroy")
    _run(engine, "destroy", "--yes", "--suppress-outputs", WIDE, *ctx.args)
    if not engine.resources() and not engine.pending():  # what was cut off may still run, and opens with these
        credentials.forget(chosen)


@app.command("destroy-target", context_settings=THROUGH)
def destroy_target(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The node, host, machine or part, as the settings call it.")],
    stack: StackName = "twin",
    yes: Yes = False,
) -> None:
    """Take one node out: drain, leave etcd, reset, power off. It asks first; the next `up` brings it back.

    A dead node can leave too. It never touches another node, and refuses when etcd would lose its quorum. To keep
    the node out, set `disabled: true` in its settings. A host, a pool's machine, or a part of the platform such as
    `traefik` leaves the same way; what will happen to it is said before.
    """
    chosen = stacks.find(stack)
    engine = _prepared(chosen, "destroy-target")
    found = leaving.find(engine.resources(), name)
    lab = observe.open_lab(chosen)
    leaving.refuse_harm(lab, found)
    words.say(f"{name} leaves {chosen.name}, and nothing else does:")
    for step in leaving.story(lab, found):
        words.say(f"  - {step}")
    words.confirm(f"Take {name} out ({words.lab_kind(chosen)})?", yes=yes)
    targeted = ("--target", found.target, "--target-dependents")
    _run(engine, "destroy", "--yes", "--suppress-outputs", *targeted, *ctx.args)
    words.show(observe.observe(lab))


@app.command("backup")
def back_up(
    file: Annotated[Path | None, typer.Argument(help="A file or folder; else .homelab/<stack>/backups.")] = None,
    stack: StackName = "twin",
    cluster: Cluster = None,
    as_json: Json = False,
) -> None:
    """Take a snapshot of etcd now, through the Talos API or of a k3s server, and verify it. It changes nothing.

    The file holds everything that Kubernetes knows, Secrets encrypted with the cluster's own key.
    """
    lab = _own_pace(stacks.find(stack))
    made = backup.make(lab, file) if cluster is None else backup_hosts.make(lab, cluster, file)
    if as_json:
        print(json.dumps(made.as_json(), indent=2))
        return
    found = made.taken.snapshot
    words.say(f"wrote {made.path}: {backup.size(found.size_bytes)}, revision {found.revision}, {found.keys} keys")
    if made.token is not None:
        words.say(f"wrote {made.token}: the servers' token, without which nobody can use the snapshot")
    if not made.taken.led:
        words.say(f"warning: etcd has no leader; this is what {made.taken.node} last knew")


@app.command("restore")
def restore_from(
    file: Annotated[Path, typer.Argument(help="What `homelab backup` or the nightly job wrote.")],
    stack: StackName = "twin",
    cluster: Cluster = None,
    yes: Yes = False,
) -> None:
    """Bring the whole control plane back from a snapshot. It asks first.

    A damaged snapshot, or one of another cluster, is refused before anything is touched. Run it again after it was
    interrupted: it goes on where it was. Workers keep their disks, and are rebooted; agents of k3s are not touched.
    """
    chosen = stacks.find(stack)
    if cluster is not None:
        Engine(chosen).release_lock()
        restore_k3s.run(_own_pace(chosen), cluster, file, yes=yes)
        return
    planned = restore.check(_own_pace(chosen), file)
    Engine(chosen).release_lock()
    words.say(f"cluster {planned.lab.settings.cluster.name} goes back to {planned.snapshot.path}:")
    for line in restore.story(planned):
        words.say(f"  - {line}")
    words.confirm(f"Wipe etcd and restore it ({words.lab_kind(chosen)})?", yes=yes)
    kept = restore.rescue(planned)
    if kept is not None:
        words.say(f"what is there now is kept in {kept}")
    for name in restore.run(planned, restore.Said()):
        words.say(f"warning: {name} gave no answer and was not rebooted; do it before you trust what it runs")
    words.show(observe.observe(planned.lab))


@app.command("mirror")
def make_mirror(
    folder: Annotated[Path, typer.Argument(help="Where to; a web server gives it to the lab.")],
    stack: StackName = "twin",
    everything: Annotated[bool, typer.Option("--all", help="Also for the parts that are off.")] = False,
    as_json: Json = False,
) -> None:
    """Collect the lab's charts in a folder, and the list of its images, for a lab without internet.

    The folder is a chart repository for `platform.charts.mirror`. Images are only listed, not fetched. It asks the
    charts' own repositories, never the lab, and removes nothing.
    """
    made = mirror.make(stacks.find(stack), folder, words.say, everything=everything)
    if as_json:
        print(json.dumps(made.as_json(), indent=2))
        return
    for note in made.needed.notes:
        words.say(f"warning: {note}")
    for url in made.needed.disk_images:
        words.say(f"disk image for cluster.talos.image: {url}")
    words.say(f"{made.folder}: {len(made.archives)} charts, {len(made.needed.images)} images in {mirror.IMAGES}")


@app.command()
def secret(
    path: Annotated[str, typer.Argument(help="Where it stands in the settings: `boards.board1.password`.")],
    stack: StackName = "homelab",
) -> None:
    """Store a password in the settings file, encrypted. It asks for it, or reads it from standard input."""
    engine = Engine(stacks.find(stack))
    engine.require_passphrase()
    value = getpass.getpass(f"{path}: ") if sys.stdin.isatty() else sys.stdin.read().rstrip("\n")
    if not value:
        raise UserError(f"{path}: an empty secret is none; nothing was stored")
    engine.select()
    engine.set_secret(path, value)
    words.say(f"{path} is in {engine.stack.settings_file.name}, encrypted")


@app.command()
def status(stack: StackName = "twin", as_json: Json = False) -> None:
    """Show what the lab is doing now: boards, nodes, etcd, API and VIP. It changes nothing, and waits for nobody."""
    seen = observe.observe(observe.open_lab(stacks.find(stack)))
    if as_json:
        print(json.dumps(seen.as_json(), indent=2))
    else:
        words.show(seen)


@app.command()
def doctor(stack: StackName = "twin", as_json: Json = False) -> None:
    """Say what is missing on this machine or unreachable in the lab, and what to type. It repairs nothing."""
    checks = doctors.examine(stacks.find(stack))
    if as_json:
        print(json.dumps([asdict(check) for check in checks], indent=2))
    else:
        words.diagnosis(checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def down(stack: StackName = "twin", yes: Yes = False) -> None:
    """End the twin: its processes, its disks, and the stack's state. It asks first, and never touches a real lab."""
    chosen = stacks.find(stack)
    if not chosen.is_twin:
        raise RefusedError(
            f"stack {chosen.name} is a real lab; `homelab destroy --stack {chosen.name}` ends its cluster"
        )
    engine = Engine(chosen)
    engine.release_lock()
    words.confirm(f"End the twin of stack {chosen.name}, with its disks and the stack's state?", yes=yes)
    twin.end(chosen)
    engine.remove()
    state.forget(chosen)
    credentials.forget(chosen)
    words.say(f"the twin of stack {chosen.name} is gone; `homelab up --stack {chosen.name}` makes a new one")


@app.command(context_settings=THROUGH)
def bench(ctx: typer.Context) -> None:
    """Measure, on twins of its own; prints a table and writes `bench/results.json`. It never touches a real lab.

    All of it takes about an hour. What follows `--` chooses: `--quick` for minutes, `--only NAME`, `--help` for more.
    """
    raise typer.Exit(subprocess.call([sys.executable, "-m", "bench", *ctx.args], cwd=stacks.ROOT))


# Day two: each verb stands in the module of its name.
app.command("kubeconfig")(kubeconfig.command)
app.command("rotate")(rotate.command)
app.command("init")(init.command)
app.command("adopt")(adopt.command)
app.command("watch")(watch.command)
app.command("report")(report.command)
app.add_typer(state.app, name="state")
app.command("preview-report")(preview_report.command)
app.command("twin-of")(twin_of.command)
app.command("rehearse")(rehearse.command)
app.command("drift")(drift.command)
app.command("image")(image.command)
app.command("cards")(cards.command)


def _own_pace(stack: Stack) -> Lab:
    """The lab for a verb that works on its nodes by itself, waiting as long as its devices take."""
    os.environ.setdefault("HOMELAB_TIME_SCALE", str(stack.time_scale))
    return observe.open_lab(stack)


def _prepared(stack: Stack, verb: str) -> Engine:
    """The stack's engine: nobody else's run in the way, a copy of its state kept, its twin running if it has one."""
    engine = Engine(stack)
    engine.require_passphrase()
    engine.select()
    exported = engine.export()
    try:
        state.keep(stack, State(exported), verb)
    except UserError as exc:
        words.say(f"warning: no copy of the state was kept: {exc}")
    for sentence in interrupted(engine, verb, exported):
        words.say(sentence)
    if stack.is_twin:
        words.say(f"twin {stack.lab}: starting, unless it runs")
        twin.start(stack)
    return engine


def _answer(stack: Stack, *, yes: bool) -> tuple[str, ...]:
    """What pulumi is told about its question; on a twin there is nothing to lose, so it does not ask.

    Raises:
        UserError: it would ask about a real lab, and there is nobody to ask.
    """
    if yes or stack.is_twin:
        return ("--yes",)
    if not sys.stdin.isatty():
        raise UserError(f"stack {stack.name} is a real lab and there is nobody to ask; say --yes (make: YES=1)")
    return ()


def _run(engine: Engine, verb: str, *arguments: str) -> None:
    if any(argument.startswith(("-v", "--verbose")) for argument in arguments):
        words.say("Pulumi's debug log prints secrets in plain: don't share it")
    code = engine.run(verb, *arguments)
    if code:
        if verb != "preview":
            words.say(f"{verb} did not finish; what is done stays done, running it again goes on from there")
        raise typer.Exit(code)


def main() -> None:
    """The command's entry point outside an installation."""
    app(prog_name="homelab")


if __name__ == "__main__":
    main()
