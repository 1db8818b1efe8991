"""`homelab report`: one page that tells of the whole lab, to be kept, printed or sent; nothing is fetched by it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import observe, run_log, stacks, words
from cli import report_platform as platform
from cli.observe import Lab
from cli.observe_scene import Scene, look
from cli.options import Json, StackName
from cli.report_certificates import certificates
from cli.report_lab import Backup, Report, Version
from cli.report_page import SHOWN_RUNS, page
from cli.stacks import Stack
from providers.errors import UserError
from tools import pins

NAME = "report.html"
# Folder of the stack -> what is kept in it.
KINDS = {"backups": "etcd", "states": "state"}

File = Annotated[Path | None, typer.Argument(help="A file or folder; else .homelab/<stack>/report.html.")]


def command(file: File = None, stack: StackName = "twin", as_json: Json = False) -> None:
    """Write one HTML page of the lab: boards and nodes, versions, certificates, backups, platform, and the last runs.

    It changes nothing. The page needs no other file and asks no other host; it holds no secret, but it names the lab's
    addresses. What gives no answer is told of as such. The exit code is 0, whatever the page says.
    """
    make(observe.open_lab(stacks.find(stack)), file, as_json=as_json)


def make(lab: Lab, file: Path | None, *, as_json: bool) -> None:
    """Write the page, or print its facts.

    Raises:
        UserError: it can't be written there.
    """
    if as_json:
        print(words.document(gather(lab)))
        return
    path = place(lab.stack, file)  # before anybody is asked
    words.say(f"wrote {write(page(gather(lab)), path)}")


def gather(lab: Lab) -> Report:
    """Ask everybody."""
    scene = look(lab)
    return Report(
        made=datetime.now(UTC),
        scene=scene,
        versions=tuple(versions(lab, scene)),
        certificates=certificates(lab),
        backups=backups(lab.stack),
        job=platform.job(lab),
        parts=platform.parts(lab),
        services=platform.services(lab),
        runs=tuple(run_log.last(lab.stack, SHOWN_RUNS)),
    )


def versions(lab: Lab, scene: Scene) -> Iterator[Version]:
    """What the settings ask for, beside what nodes, API and boards tell."""
    cluster = lab.settings.cluster
    yield Version("Talos", cluster.talos.version, _seen(node.version for node in scene.nodes))
    yield Version("Kubernetes API", cluster.kubernetes.version, scene.cluster.kubernetes or "")
    yield Version("kubelets", cluster.kubernetes.version, _seen(node.kubelet for node in scene.nodes))
    yield Version("BMC firmware", "", _seen(board.firmware for board in scene.boards))
    yield Version("network of the pods", str(cluster.cni), "")
    yield Version("Pulumi engine", pins.ENGINE.version, "")


def _seen(words_of: Iterator[str] | Any) -> str:
    return ", ".join(sorted({word for word in words_of if word}))


def backups(stack: Stack) -> tuple[Backup, ...]:
    """What is kept on this machine, newest first."""
    found = [
        Backup(kind, path.name, path.stat().st_size, datetime.fromtimestamp(int(path.stat().st_mtime), UTC))
        for folder, kind in KINDS.items()
        for path in (stack.folder / folder).glob("[!.]*")
        if path.is_file() and path.suffix != ".token"  # of a k3s cluster's snapshot, which is listed itself
    ]
    return tuple(sorted(found, key=lambda it: (it.made, it.file), reverse=True))


def place(stack: Stack, to: Path | None) -> Path:
    """Where the page goes.

    Raises:
        UserError: there is no such folder.
    """
    if to is None:
        stack.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return stack.folder / NAME
    path = to.expanduser().absolute()
    if path.is_dir():
        return path / NAME
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}; make it first")
    return path


def write(text: str, path: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        UserError: it can't be written there.
    """
    try:
        handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(fresh).replace(path)
        finally:
            Path(fresh).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path}: can't be written: {error.strerror}") from None
    return path
