"""`homelab kubeconfig`: a person's own way to the Kubernetes API, with less than an administrator's rights."""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from cli import credentials, observe, stacks, words
from cli.observe import Lab
from cli.options import Json, StackName
from providers import pace
from providers.deadline import Deadline
from providers.errors import UserError
from providers.kubernetes import people
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access
from providers.talos.pki import ClientCert, days_left
from providers.talos.secrets import kubeconfig

SIGN_S = 120.0
DAYS = 30
NAME = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9_.@]{0,61}[a-zA-Z0-9])?")


def command(
    user: Annotated[str, typer.Option("--user", help="Whom it is for: the name in Kubernetes' audit log.")],
    group: Annotated[
        str, typer.Option("--group", help="`viewers` may look, `editors` may change; others you bind yourself.")
    ] = "viewers",
    days: Annotated[int, typer.Option("--days", min=1, max=365, help="How long it is valid.")] = DAYS,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file; else .homelab/<stack>/kubeconfig-<user>.")
    ] = None,
    stack: StackName = "twin",
    as_json: Json = False,
) -> None:
    """Write a kubeconfig for one person, with a certificate that the cluster signs and that ends by itself.

    It can't be taken back before its end: Kubernetes knows no revoked certificates. Taking the rights from the group
    takes them from everybody in it. Exit codes: 0 written, 1 not.
    """
    _refuse_name("--user", user)
    _refuse_name("--group", group)
    chosen = stacks.find(stack)
    os.environ.setdefault("HOMELAB_TIME_SCALE", str(chosen.time_scale))
    lab = observe.open_lab(chosen)
    path = place(lab, user, out)
    text, role, left = made(lab, user, group, timedelta(days=days))
    lab.stack.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    credentials.write(path, text)
    if as_json:
        print(json.dumps({"file": str(path), "user": user, "group": group, "role": role, "days": round(left, 1)}))
    told(path, group, role, left)


def _refuse_name(option: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise UserError(
            f"{option} {name!r}: letters, digits, and . _ @ - between them, at most 63; "
            "names with a colon are Kubernetes' own, such as system:masters"
        )


def place(lab: Lab, user: str, out: Path | None) -> Path:
    """Where it goes.

    Raises:
        UserError: there is no such folder, or it would replace the administrator's file.
    """
    if out is None:
        return lab.stack.folder / f"kubeconfig-{user}"
    path = out.expanduser().absolute()
    own = lab.stack.folder / "kubeconfig"
    if path.resolve() == own.resolve():
        raise UserError(f"--out {out}: that is the administrator's kubeconfig; choose another file")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--out {out}: not a file in a folder that is there")
    return path


def made(lab: Lab, user: str, group: str, lifetime: timedelta) -> tuple[str, str | None, float]:
    """The kubeconfig, the role of its group (None: nobody bound one here), and the days that the cluster gave.

    Raises:
        UserError: there is no cluster yet.
        RefusedError: the cluster does not sign it.
    """
    if lab.kubeconfig is None:
        up = f"homelab up --stack {lab.stack.name}"
        raise UserError(f"no cluster is known here: {lab.stack.folder / 'kubeconfig'} is missing; `{up}` writes it")
    own = Access.parse(lab.kubeconfig)
    deadline = Deadline(pace.limit(SIGN_S))
    with Kube(lab.kubeconfig) as kube:
        role = people.bind(kube, group)
        issued = people.issue(kube, user, group, lifetime, deadline)
    cert = ClientCert(own.ca, issued.crt, issued.key)
    return kubeconfig(lab.settings.cluster.name, own.server, cert, user), role, days_left(issued.crt)


def told(path: Path, group: str, role: str | None, left: float) -> None:
    """What the reader has to know of it."""
    may = f"may do what ClusterRole {role} allows" if role else "may do nothing until you bind a role to it"
    words.say(f"wrote {path}, for its reader only; group {group} {may}")
    words.say(f"valid for {left:.0f} days. It can't be taken back before that: whoever has the file has the rights")
