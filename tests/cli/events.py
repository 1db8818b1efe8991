"""Lines as the engine writes them into its event log (`apitype.EngineEvent`)."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

BEGAN = 1_763_740_000
STACK = "urn:pulumi:twin::homelab::pulumi:pulumi:Stack::homelab-twin"
DYNAMIC = "pulumi-python:dynamic/"
_sequence = count()


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:twin::homelab::{kind}::{name}"


def line(at: int, **told: Any) -> str:
    return json.dumps({"sequence": next(_sequence), "timestamp": BEGAN + at, **told}) + "\n"


def step(at: int, key: str, kind: str, name: str, parent: str = STACK, op: str = "create", **more: Any) -> str:
    """One of the three events of a step. The state in it is what has to be cut away."""
    custom = not kind.startswith(("homelab:", "pulumi:pulumi:", "kubernetes:helm.sh"))
    state = {
        "urn": urn(kind, name),
        "type": kind,
        "custom": custom,
        "parent": parent,
        "inputs": {"address": "127.0.0.1", "password": "[secret]", "long": "x" * 500},
        "outputs": {"plain": "a word of the state"},
    }
    old, new = (state, None) if op == "delete" else (None, state)
    about = {"op": op, "urn": urn(kind, name), "type": kind, "old": old, "new": new, "detailedDiff": None}
    return line(at, **{key: {"metadata": about, **more}})


def begin(at: int, kind: str, name: str, parent: str = STACK, op: str = "create", **more: Any) -> str:
    return step(at, "resourcePreEvent", kind, name, parent, op, **more)


def end(at: int, kind: str, name: str, parent: str = STACK, op: str = "create", **more: Any) -> str:
    return step(at, "resOutputsEvent", kind, name, parent, op, **more)


def failed(at: int, kind: str, name: str, parent: str = STACK, op: str = "create") -> str:
    return step(at, "resOpFailedEvent", kind, name, parent, op, status=0, steps=1)


def said(at: int, text: str, of: str = "", severity: str = "info", *, ephemeral: bool = False) -> str:
    message = f"<{{%reset%}}>{text}<{{%reset%}}>\n"
    return line(
        at,
        diagnosticEvent={"urn": of, "message": message, "color": "raw", "severity": severity, "ephemeral": ephemeral},
    )


def counted(at: int, changes: dict[str, int], *, preview: bool = False) -> str:
    told = {"maybeCorrupt": False, "durationSeconds": at, "resourceChanges": changes, "isPreview": preview}
    return line(at, summaryEvent=told)


def over(at: int) -> str:
    return line(at, cancelEvent={})


def prelude(at: int) -> str:
    return line(at, preludeEvent={"config": {"homelab:boards": "[secret]"}})


FLASH, POWER = f"{DYNAMIC}turingpi:Flash", f"{DYNAMIC}turingpi:Power"
NODE1 = urn("homelab:Node", "node1")
CHART = "kubernetes:helm.sh/v4:Chart"


def first_up() -> list[str]:
    """An `up` that flashed a node, powered it, and failed at an object of a chart."""
    traefik, chart = urn("homelab:Traefik", "traefik"), urn(CHART, "traefik-chart")
    flash = urn(FLASH, "node1-flash")
    return [
        prelude(0),
        begin(0, "pulumi:pulumi:Stack", "homelab-twin", ""),
        begin(1, "homelab:Node", "node1"),
        begin(1, FLASH, "node1-flash", NODE1),
        said(2, "downloading 10 %, 40.0 MB/s", flash, ephemeral=True),
        said(20, "writing 42 %, 5.1 MB/s, 3 min left", flash, ephemeral=True),
        said(60, "flashed 1306 MB in 59 s", flash),
        end(61, FLASH, "node1-flash", NODE1),
        begin(61, POWER, "node1-power", NODE1),
        begin(61, "homelab:Traefik", "traefik"),
        begin(62, CHART, "traefik-chart", traefik),
        begin(62, "kubernetes:apps/v1:Deployment", "traefik-chart:traefik/traefik", chart),
        end(63, POWER, "node1-power", NODE1),
        begin(63, "kubernetes:core/v1:Service", "traefik-chart:traefik/web", chart, "same"),
        end(63, "kubernetes:core/v1:Service", "traefik-chart:traefik/web", chart, "same"),
        said(70, "error: the image is not there", urn("kubernetes:apps/v1:Deployment", "x"), "error"),
        failed(70, "kubernetes:apps/v1:Deployment", "traefik-chart:traefik/traefik", chart),
        end(71, "homelab:Node", "node1"),
        begin(71, "pulumi:providers:kubernetes", "kubernetes"),
        end(71, "pulumi:providers:kubernetes", "kubernetes"),
        counted(71, {"create": 3, "same": 8}),
        over(71),
    ]
