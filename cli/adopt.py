"""`homelab adopt`: from the talosconfig of a cluster that runs to settings whose `up` changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from cli import credentials, found, layout, new_settings, takeover, twin, words
from cli.asking import Asked, by_name, known_names
from cli.found import Found
from cli.stacks import Stack
from cli.takeover import Taken
from providers.discovery import cluster
from providers.discovery.cluster import Access, Member
from providers.errors import RefusedError, UserError
from providers.talos.identity import stored_certificate
from providers.talos.secrets import talosconfig as talosconfig_of

Many = list[str] | None


def command(
    talosconfig: Annotated[Path, typer.Option(help="The cluster's talosconfig; an administrator's.")],
    stack: Annotated[str, typer.Option("--stack", "-s", help="Whose settings file to write.")] = "homelab",
    context: Annotated[str | None, typer.Option(help="A context of it. Absent: its current one.")] = None,
    board: found.Boards = None,
    sweep: found.Sweep = None,
    interface: found.Interfaces = None,
    username: found.Username = "root",
    password_file: found.PasswordFile = None,
    machine: Annotated[Many, typer.Option(help="Where a node's module sits: node1=board1/1.")] = None,
    without: Annotated[Many, typer.Option(help="A worker to leave out of the settings; it runs on.")] = None,
    vip: Annotated[str, typer.Option(help="A free address to share, if its control planes have none.")] = "",
    accept_changes: Annotated[
        bool, typer.Option("--accept-changes", help="Write it although the first `up` will change something.")
    ] = False,
) -> None:
    """Write settings for a Talos cluster that runs already, so that the next `up` takes it over and changes nothing.

    What the settings can't say is kept as config patches. What can't be kept is listed, and nothing is written
    unless you say `--accept-changes`. The talosconfig is put to `.homelab/<stack>/`, where `up` reads the cluster's
    secrets back from a control plane. It changes no device. Exit code 0: written; 1: nothing was written.
    """
    lab = new_settings.fresh(stack)
    if lab.is_twin:
        twin.start(lab)
    way = _access(talosconfig, context)
    _refuse_another(lab, way)
    members = _kept(cluster.read(way), without or [])
    words.say(f"{len(members)} nodes: {', '.join(member.name for member in members)}")
    asked = Asked()
    boards = found.find(lab, found.Where(board or [], sweep, interface or [], username, password_file), asked)
    found.show(boards.boards)
    slots = _slots(members, boards, by_name("--machine", machine or ()), asked)
    sections = {name: layout.board_section(seen.address, username) for name, seen in boards.boards.items()}
    taken = takeover.take(members, sections, slots, lab, vip)
    _refuse_changes(taken, accepted=accept_changes)
    _write(lab, taken, boards.passwords)
    _leave(lab, taken, way, members)


def _access(path: Path, context: str | None) -> Access:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--talosconfig {path}: can't be read ({error})") from None
    return cluster.access(text, context)


def _refuse_another(lab: Stack, way: Access) -> None:
    """The stack's credentials are of one cluster only."""
    kept = lab.folder / "talosconfig"
    known = stored_certificate(kept)
    if known is not None and known.ca.strip() != way.cert.ca.strip():
        raise RefusedError(
            f"{kept} is of another cluster; move it away if that cluster is gone, or name another stack with --stack"
        )


def _kept(members: list[Member], without: list[str]) -> list[Member]:
    """The members without the workers that stay out of the settings."""
    known_names("--without", dict.fromkeys(without, ""), [member.name for member in members])
    leading = [member.name for member in members if member.leads and member.name in without]
    if leading:
        raise UserError(f"--without {leading[0]}: it is a control plane, and etcd counts on it")
    return [member for member in members if member.name not in without]


def _slots(members: list[Member], boards: Found, given: Mapping[str, str], asked: Asked) -> dict[str, tuple[str, int]]:
    """Board and slot of every node: told, or known from a module's console; never guessed.

    A wrong one would switch another module off on the day on which the node is destroyed.
    """
    known_names("--machine", given, [member.name for member in members])
    places: dict[str, tuple[str, int]] = {}
    for member in members:
        seen = _seen(member, boards)
        text = asked.text(
            f"board and slot of {member.name} ({member.address}), such as board1/1",
            f"--machine {member.name}=...",
            given.get(member.name, ""),
            seen,
        )
        if text:
            places[member.name] = _place(member.name, text, boards)
    asked.finish()
    return places


def _seen(member: Member, boards: Found) -> str:
    """The only slot whose module said that it has the node's address."""
    slots = [
        f"{name}/{slot.number}"
        for name, board in boards.boards.items()
        for slot in board.slots.values()
        if slot.evidence.address == member.address
    ]
    return slots[0] if len(slots) == 1 else ""


def _place(node: str, text: str, boards: Found) -> tuple[str, int]:
    board, _, slot = text.partition("/")
    if board not in boards.boards or slot not in ("1", "2", "3", "4"):
        known = ", ".join(boards.boards)
        raise UserError(
            f"--machine {node}={text}: write BOARD/SLOT with a board of {known} and a slot of 1 to 4. A worker that "
            f"sits on no Turing Pi can stay out: --without {node}"
        )
    return board, int(slot)


def _refuse_changes(taken: Taken, *, accepted: bool) -> None:
    if not taken.left:
        return
    for line in taken.left:
        words.say(f"  the first `up` would change {line}")
    if not accepted:
        raise RefusedError(
            f"{len(taken.left)} places of the machine configs can't be kept by settings and patches; nothing was "
            f"written. If these changes are welcome, say --accept-changes"
        )


def _write(lab: Stack, taken: Taken, passwords: Mapping[str, str]) -> None:
    """The file and its secrets. A file that lacks a secret of the cluster would have `up` take it out of the nodes."""
    new_settings.put(taken.text, lab)
    left = new_settings.store(lab, taken.secrets)
    if left:
        lab.settings_file.unlink()
        raise UserError(
            f"the machine configs hold secrets that belong encrypted into {lab.settings_file.name}, and they could "
            f"not be stored; mend that and run this again. Nothing was written"
        )
    words.say(f"wrote {lab.settings_file.name}: {taken.kept} differences are kept as patches")
    unset = [f"boards.{name}.password" for name in taken.boards if name not in passwords]
    told = {f"boards.{name}.password": password for name, password in passwords.items()}
    for line in [*new_settings.store(lab, told), *(new_settings.command(path, lab) for path in unset)]:
        words.say(f"  still to type: {line}")


def _leave(lab: Stack, taken: Taken, way: Access, members: list[Member]) -> None:
    """Put the credentials where `up` looks for them."""
    endpoints = [member.address for member in members if member.leads]
    text = talosconfig_of(taken.name, way.cert, endpoints, endpoints)
    for path in credentials.leave(lab, {"talosconfig": text}):
        words.say(f"wrote {path.relative_to(lab.root)}")
    for warning in taken.warnings:
        words.say(f"warning: {warning}")
    words.say(f"next: homelab preview --stack {lab.name}, then homelab up: it adopts what runs and changes no node")
