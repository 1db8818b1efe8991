"""The passwords that no machine config holds: a board's, which its owner changes there, and Grafana's."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from cli import observe, rotate_prove, words
from cli.engine import Engine
from cli.observe import Lab
from cli.rotate_runs import HomelabRuns
from cli.stacks import Stack, suggestion
from providers import pace
from providers.deadline import Deadline
from providers.errors import AuthError, HomelabError, UserError
from providers.kubernetes.client import Kube
from providers.kubernetes.workloads import ANNOTATION
from providers.turingpi.client import Bmc, Endpoint

TRY_S = 20.0
OBJECT_S = 180.0
PASSWORD = "monitoring-password"  # noqa: S105  # a resource's name
GRAFANA = "/apis/apps/v1/namespaces/monitoring/deployments/kube-prometheus-stack-grafana"
IN_ITS_VOLUME = (
    "Grafana keeps its users in its volume, where the old password still counts. Set it to the new one: "
    "kubectl -n monitoring exec deploy/kube-prometheus-stack-grafana -c grafana -- "
    "sh -c 'grafana cli admin reset-admin-password \"$GF_SECURITY_ADMIN_PASSWORD\"'"
)


def board(stack: Stack, name: str | None) -> None:
    """Take over a board's new password: tried on the board first, then stored encrypted, then given to the state.

    The board's API can't change it, so its owner does. Until this has run, `up` is refused by the board; what it was
    doing before is not touched.

    Raises:
        UserError: no such board, or an empty password.
        AuthError: the board does not take it; nothing was stored.
    """
    lab = observe.open_lab(stack)
    chosen = _chosen(lab, name)
    found = lab.settings.boards[chosen]
    words.say(f"change it on the board first: ssh {found.username}@{found.address} passwd")
    value = getpass.getpass(f"the new password of {chosen}: ") if sys.stdin.isatty() else sys.stdin.read().rstrip("\n")
    if not value:
        raise UserError("an empty password is none; nothing was stored")
    tried(chosen, replace(observe.endpoint(found), password=value))
    engine = Engine(stack)
    engine.require_passphrase()
    engine.select()
    engine.set_secret(f"boards.{chosen}.password", value)
    words.say(f"boards.{chosen}.password is in {stack.settings_file.name}, encrypted")
    HomelabRuns(stack).up("")


def _chosen(lab: Lab, name: str | None) -> str:
    boards = list(lab.settings.boards)
    if name is None and len(boards) == 1:
        return boards[0]
    if name not in boards:
        hint = suggestion(name, boards) if name else f"known: {', '.join(boards)}"
        raise UserError(f"--board: which board's password is it? {hint}")
    return name


def tried(name: str, login: Endpoint) -> None:
    """Ask the board something, once: a board counts wrong passwords, and shuts out who had five.

    Raises:
        AuthError: it does not take this login.
    """
    try:
        with Bmc.connect(login, TRY_S) as bmc:
            bmc.power()
    except AuthError:
        host = urlsplit(login.url).hostname
        raise AuthError(
            f"{name} ({host}): refuses this password; change it there first "
            f"(`ssh {login.username}@{host} passwd`), then run this again; nothing was stored"
        ) from None


def grafana(stack: Stack, *, yes: bool) -> None:
    """Have a new password made for Grafana's admin, and Grafana start with it.

    Raises:
        UserError: the stack has no Grafana.
        HomelabError: the run did not come to its end.
    """
    engine = Engine(stack)
    engine.require_passphrase()
    urn = next((found.urn for found in engine.resources() if found.name == PASSWORD), None)
    if urn is None:
        raise UserError(f"stack {stack.name} has no Grafana (platform.monitoring is off, or `homelab up` did not run)")
    words.confirm(f"Make a new password for Grafana and restart it ({words.lab_kind(stack)})?", yes=yes)
    HomelabRuns(stack).replace(urn)
    lab = rotate_prove.opened(stack)
    password = str((engine.outputs().get("logins") or {}).get("grafana-password", ""))
    if lab.kubeconfig is None or not password:
        raise HomelabError("the run left no kubeconfig, or no password of Grafana; nothing was restarted")
    _restart(lab.kubeconfig, rotate_prove.fingerprint(password))
    words.say(f"`pulumi stack output logins --show-secrets --stack {stack.name}` shows it")


def _restart(kubeconfig: str, reason: str) -> None:
    body = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: reason}}}}}
    with Kube(kubeconfig) as kube:
        if not kube.merge(GRAFANA, body, Deadline(pace.limit(OBJECT_S))):
            words.say("warning: Grafana's deployment is not there; it starts with the new password when it comes")
        if keeps_its_users(kube.look(GRAFANA)):
            words.say(IN_ITS_VOLUME)


def keeps_its_users(deployment: Mapping[str, Any] | None) -> bool:
    """Whether Grafana's database outlives its pod: it reads the password only when it makes one."""
    volumes = deployment["spec"]["template"]["spec"].get("volumes", ()) if deployment else ()
    return any("persistentVolumeClaim" in volume for volume in volumes)
