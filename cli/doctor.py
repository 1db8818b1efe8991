"""What is missing on this machine or unreachable in the lab, and what to type."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cli import backends, locks, observe, twin
from cli.engine import PASSPHRASE, Engine
from cli.observe import Lab
from cli.stacks import Stack
from components.login import login
from providers.errors import AuthError, HomelabError
from providers.kubernetes.client import Kube
from providers.ssh import reach
from providers.ssh.client import connect
from providers.talos import wipe
from providers.turingpi.client import Bmc, certificate_fingerprint
from settings import Board, Host, Node
from settings.models import set_secret
from settings.secrets import PLACEHOLDER
from tools import paths

ENGINE = "v3.232.0"
MIN_PYTHON = (3, 11)
COMMAND_S = 20.0


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: its name.
        ok: whether it is as it should be.
        seen: what was found.
        fix: what to type when it is not.
    """

    what: str
    ok: bool
    seen: str
    fix: str = ""


def examine(stack: Stack) -> list[Check]:
    """Look at everything; what can't be looked at is a problem of its own."""
    checks = [*_machine(), *_engine(stack)]
    if stack.is_twin:
        checks += _twin(stack)
    try:
        lab = observe.open_lab(stack)
    except HomelabError as exc:
        return [*checks, Check("settings", ok=False, seen=str(exc), fix=f"edit {stack.settings_file.name}")]
    checks.append(Check("settings", ok=True, seen=f"{stack.settings_file.name}: {len(lab.settings.nodes)} nodes"))
    return [*checks, *_lab(lab)]


def _twin(stack: Stack) -> Iterator[Check]:
    built, runs = (paths.servers_bin() / "kube-apiserver").exists(), twin.running(stack)
    yield Check("twin's servers", built, str(paths.servers_bin()) if built else "not installed", "make up")
    yield Check("twin", runs, "running" if runs else "not running", f"homelab up --stack {stack.name}")


def _machine() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("python", sys.version_info >= MIN_PYTHON, version, "install Python 3.11 or newer")
    for tool, arguments in (("go", ["version"]), ("git", ["--version"]), ("make", ["--version"])):
        seen = _first_line([tool, *arguments])
        yield Check(
            tool, seen is not None, seen or "not found", f"install {tool} (your system's package manager has it)"
        )


def _engine(stack: Stack) -> Iterator[Check]:
    engine = Engine(stack)
    path = engine.environment.get("PATH", "")
    pulumi = shutil.which("pulumi", path=path)
    seen = _first_line([pulumi, "version"]) if pulumi else None
    yield Check("engine", seen == ENGINE, seen or "not installed", "make up")
    host = shutil.which("pulumi-language-python", path=path)
    yield Check("language host", host is not None, host or "not installed", "make up")
    yield _passphrase(engine)
    yield _state(engine)
    yield _lock(engine)


def _passphrase(engine: Engine) -> Check:
    given = [key for key in PASSPHRASE if key in engine.environment]
    where = engine.stack.local / "passphrase"
    fix = f"put the passphrase of the stack's secrets into {where} (chmod 600), or export PULUMI_CONFIG_PASSPHRASE"
    return Check("passphrase", bool(given), given[0] if given else "not given", fix)


def _state(engine: Engine) -> Check:
    backend, where = engine.backend, f"{engine.backend.kind}, {engine.backend.shown}"
    try:
        known = backend.folder is not None or engine.exists()  # a bucket or service has to be asked
    except HomelabError as exc:
        fix = f"check {backends.VARIABLE} or `backend:` in {backends.PROJECT_FILE}, and its credentials"
        return Check("state", ok=False, seen=f"{where}: {exc}", fix=fix)
    return Check("state", ok=True, seen=where if known else f"{where}: no stack {engine.stack.name} yet")


def _lock(engine: Engine) -> Check:
    folder, name = engine.backend.folder, engine.stack.name
    if folder is None:
        return Check("state lock", ok=True, seen="not looked at: a run that begins asks the backend")
    held = locks.locks(folder, name)
    if not held:
        return Check("state lock", ok=True, seen="free")
    gone = not locks.is_pulumi(held[0].pid)
    fix = f"homelab up --stack {name} releases it if its process is gone; else wait for it"
    return Check("state lock", ok=False, seen=f"{held[0].holder}{' (gone)' if gone else ''}", fix=fix)


def _lab(lab: Lab) -> list[Check]:
    """Boards, nodes, hosts and the API, all at once."""
    boards: list[Callable[[], Check]] = [_call(_board, n, b, lab) for n, b in lab.settings.boards.items()]
    nodes: list[Callable[[], Check]] = [_call(_node, node, lab) for node in lab.settings.enabled_nodes]
    hosts: list[Callable[[], Check]] = [_call(_host, h, lab) for h in lab.settings.hosts.values() if not h.disabled]
    api = [_call(_api, lab)] if lab.settings.nodes else []
    checks = [*boards, *nodes, *hosts, *api]
    with ThreadPoolExecutor(max(1, len(checks))) as threads:
        return list(threads.map(lambda check: check(), checks))


def _call(check: Callable[..., Check], *arguments: object) -> Callable[[], Check]:
    return lambda: check(*arguments)


def _board(name: str, board: Board, lab: Lab) -> Check:
    try:
        shown = certificate_fingerprint(board.url)
        fine = f"{board.url}, certificate {shown}{'' if board.fingerprint else ' (not pinned)'}", ""
        seen, fix = _stranger(name, board, shown) or _no_password(board, lab) or _no_login(board) or fine
    except HomelabError as exc:
        seen, fix = str(exc), f"check its power and cable, and that {board.url} is its address"
    return Check(f"board {name}", not fix, seen, fix)


def _stranger(name: str, board: Board, shown: str) -> tuple[str, str] | None:
    if board.fingerprint is None or _hex(shown) == _hex(board.fingerprint):
        return None
    fix = f"if the board was reset or renewed: set homelab:boards.{name}.fingerprint to {shown}"
    return f"{board.url} shows another certificate than the settings pin", fix


def _no_password(board: Board, lab: Lab) -> tuple[str, str] | None:
    if observe.opened(board):
        return None
    if lab.locked:
        return f"answers; its password can't be read: {lab.locked}", f"homelab up --stack {lab.stack.name}"
    return "answers; its password is not set", set_secret(("boards", board.name, "password"))


def _no_login(board: Board) -> tuple[str, str] | None:
    try:
        with Bmc.connect(observe.endpoint(board), observe.ANSWER_S) as bmc:
            bmc.power()
    except AuthError as exc:
        return str(exc), set_secret(("boards", board.name, "password"))
    return None


def _node(node: Node, lab: Lab) -> Check:
    up = f"homelab up --stack {lab.stack.name}"
    seen = observe.mode(str(node.address), lab.certificate)
    fixes = {
        "foreign": f"another cluster's, or its talosconfig is missing in {lab.stack.folder}: put it there, or wipe "
        f"the node with that cluster's own: {wipe.command(str(node.address))}",
        "configured": f"put its cluster's talosconfig to {lab.stack.folder / 'talosconfig'}, then {up}",
        "maintenance": up,
    }
    fix = fixes.get(seen, f"{up}; if it stays so, switch it off and on at its board")
    return Check(f"node {node.name}", seen == "running", f"{node.address}: {seen}", fix)


def _host(host: Host, lab: Lab) -> Check:
    what, props = f"host {host.name}", login(host, lab.settings)
    if props["key"] in (None, PLACEHOLDER):
        fix = set_secret(("clusters", host.cluster, "ssh", "key"))
        return Check(what, ok=False, seen=f"its SSH key can't be read: {lab.locked or 'it is not set'}", fix=fix)
    try:
        with connect(reach.target(props), observe.ANSWER_S) as opened:
            return Check(what, ok=True, seen=f"{opened.target.address} answers over SSH, with the pinned key")
    except HomelabError as exc:
        fix = "check its power and cable, and `clusters` and `hosts` in the settings: docs/runbooks/hosts.md"
        return Check(what, ok=False, seen=str(exc), fix=fix)


def _api(lab: Lab) -> Check:
    where = f"https://{lab.vip}:{lab.settings.cluster.endpoint.port}"
    up = f"homelab up --stack {lab.stack.name}"
    if lab.kubeconfig is None:
        return Check("vip", ok=False, seen=f"{where}: no kubeconfig here yet", fix=up)
    try:
        with Kube(lab.kubeconfig, server=where, timeout_s=observe.ANSWER_S) as kube:
            return Check("vip", ok=True, seen=f"{where} answers: {kube.version()}")
    except HomelabError as exc:
        return Check(
            "vip", ok=False, seen=str(exc), fix=f"homelab status --stack {lab.stack.name} (who holds the VIP?)"
        )


def _hex(fingerprint: str) -> str:
    return fingerprint.lower().removeprefix("sha256:").replace(":", "")


def _first_line(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_S, check=True, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout else ""
