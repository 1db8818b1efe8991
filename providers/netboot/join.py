"""A pool's configs: made with tokens of their own, served at paths that nobody guesses, and made anew in time."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from providers.dynamic import Props
from providers.engine import Reporter
from providers.errors import HomelabError
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access
from providers.netboot import configs, tokens
from providers.talos.factory import register
from providers.talos.wire import unpack

ANYBODY = "*"  # the entry for machines that the settings don't name
FOLDER = "config"
HOUR_S = 3600


def issue(props: Props, report: Reporter, now_s: float | None = None) -> Props:
    """Give every entry of a pool a token and a config.

    Args:
        props: `pool`, `kind` (talos or linux), `entries` (name -> fields), `hours`, `kubeconfig` of the cluster that
            is joined; of Talos also `secrets`, the `factory`, and the schematic's `recipe`.
        report: told what is done.
        now_s: the time, in seconds since 1970.

    Returns:
        `configs`: JSON of name -> {path, text}, a secret; `tokens`: their ids; `expires`: when they end.
    """
    if props.get("recipe"):
        register(props["factory"], props["recipe"])  # else it makes no kernel of it
    expires = int((time.time() if now_s is None else now_s) + float(props["hours"]) * HOUR_S)
    render = _renderer(props)
    made: dict[str, dict[str, str]] = {}
    ids: list[str] = []
    with Kube(props["kubeconfig"]) as kube:
        for name, fields in sorted(props["entries"].items()):
            token = tokens.new(expires)
            report.progress(f"a join token for {name}")
            tokens.admit(kube, token, f"{props['pool']}/{name}")
            ids.append(token.id)
            made[name] = {"path": _path(props["kind"]), "text": render(fields, token)}
    return {"configs": json.dumps(made, sort_keys=True), "tokens": ids, "expires": expires}


def withdraw(props: Props, ids: Iterable[str], report: Reporter) -> None:
    """Take tokens back. What can't be taken back ends by itself, and is told."""
    try:
        with Kube(props["kubeconfig"]) as kube:
            for token in ids:
                tokens.withdraw(kube, token)
    except HomelabError as error:
        report.warn(f"{props['pool']}: its join tokens are not taken back and end by themselves: {error}")


def is_due(olds: Mapping[str, Any], now_s: float | None = None) -> bool:
    """Whether less than half of the tokens' time is left."""
    left_s = float(olds.get("expires", 0)) - (time.time() if now_s is None else now_s)
    return left_s < float(olds.get("hours", 0)) * HOUR_S / 2


def _renderer(props: Props) -> Callable[[configs.Entry, tokens.Token], str]:
    """Talos is told the cluster's secrets, as far as a worker may have them; a plain Linux, where its API is."""
    if props["kind"] == "talos":
        bundle = unpack(props["secrets"])
        return lambda fields, token: configs.talos(fields, bundle, token)
    access = Access.parse(props["kubeconfig"])
    return lambda fields, token: configs.linux(fields, access, token)


def _path(kind: str) -> str:
    return f"{FOLDER}/{secrets.token_hex(16)}/{'config.yaml' if kind == 'talos' else 'join'}"
