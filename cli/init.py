"""`homelab init`: from the boards in the LAN to a settings file. It asks and writes; it changes no device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from cli import found, layout, new_settings, twin, words
from cli.asking import Asked, by_name
from cli.options import Json
from cli.stacks import ROOT, Stack

Many = list[str] | None


def command(
    stack: Annotated[str, typer.Option("--stack", "-s", help="Whose settings file to write.")] = "homelab",
    board: found.Boards = None,
    sweep: found.Sweep = None,
    interface: found.Interfaces = None,
    username: found.Username = "root",
    password_file: found.PasswordFile = None,
    vip: Annotated[str, typer.Option(help="A free address that the control planes will share.")] = "",
    name: Annotated[str, typer.Option(help="Name of the cluster.")] = "",
    lan: Annotated[str, typer.Option(help="The LAN. Absent: the /24 around the VIP.")] = "",
    control_planes: Annotated[int | None, typer.Option(help="1, 3 or 5. Absent: 3, or 1 of fewer modules.")] = None,
    slots: Annotated[Many, typer.Option(help="Which slots have a module: board1=1,2,4.")] = None,
    address: Annotated[Many, typer.Option(help="A node's address: node1=192.168.1.71.")] = None,
    mac: Annotated[Many, typer.Option(help="A node's MAC address: node1=02:00:00:00:00:01.")] = None,
    install: Annotated[
        bool | None, typer.Option("--install/--no-install", help="Let the first `up` erase the modules' disks.")
    ] = None,
    talos: Annotated[str, typer.Option(help="Talos version.")] = "",
    kubernetes: Annotated[str, typer.Option(help="Kubernetes version.")] = "",
    factory: Annotated[str, typer.Option(help="URL of an Image Factory of your own.")] = "",
    list_only: Annotated[bool, typer.Option("--list", help="Only show what is there; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Find the boards in the LAN and write a commented settings file for them. It changes no device.

    It asks what it can't know; every question has an option, and without a terminal a missing one is said. The
    example `Pulumi.homelab.yaml` is replaced as long as nobody edited it, any other file never. Passwords are stored
    encrypted, or the command for it is said. Exit code 0: written, or listed; 1: nothing was written.
    """
    lab = Stack(stack, ROOT) if list_only else new_settings.fresh(stack)
    if lab.is_twin:
        twin.start(lab)
    asked = Asked()
    where = found.Where(board or [], sweep, interface or [], username, password_file)
    seen = found.find(lab, where, asked)
    if as_json:
        print(json.dumps({"boards": found.as_json(seen.boards)}, indent=2))
    else:
        found.show(seen.boards)
    if list_only:
        return
    answers = layout.Answers(
        vip, name, lan, control_planes, by_name("--slots", slots or ()), by_name("--address", address or ()),
        by_name("--mac", mac or ()), install, talos, kubernetes, factory,
    )  # fmt: skip
    write(
        lab,
        layout.sections(seen.boards, answers, asked, username),
        "Written by `homelab init` from what it found and was told.",
        {f"boards.{name}.password": password for name, password in seen.passwords.items()},
    )


def write(stack: Stack, sections: Mapping[str, Mapping[str, Any]], origin: str, secrets: Mapping[str, str]) -> None:
    """Write the file if it is valid, then the secrets, and say what is left to do.

    Raises:
        SettingsError: the answers make no valid file; nothing was written.
    """
    text = new_settings.text_of(sections, stack, origin)
    lab = new_settings.checked(text, stack)
    new_settings.put(text, stack)
    words.say(f"wrote {stack.settings_file.name}: {len(lab.nodes)} nodes on {', '.join(lab.boards)}")
    unset = [f"boards.{name}.password" for name in lab.boards if f"boards.{name}.password" not in secrets]
    left = [*new_settings.store(stack, secrets), *(new_settings.command(path, stack) for path in unset)]
    for line in left:
        words.say(f"  still to type: {line}")
    for warning in lab.warnings:
        if not warning.path.endswith(".password"):
            words.say(f"warning: {warning}")
    words.say(f"next: homelab preview --stack {stack.name}")
