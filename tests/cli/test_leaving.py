"""Before one node leaves."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from cli import credentials, leaving
from cli.engine import Resource
from providers.errors import RefusedError, UserError
from settings.parts import Longhorn
from tests.cli.lab import garage, lab
from tests.providers.kubernetes.wire import Authority, answering, kubeconfig

BASE = "urn:pulumi:twin::homelab::"
FLASH = "homelab:Node$pulumi-python:dynamic/turingpi:Flash"
CHART = "homelab:Traefik$kubernetes:helm.sh/v4:Chart"
PARTS = [
    *(("homelab:Node", name, "") for name in ("node3", "node30")),
    ("homelab:ControlPlane", "control-plane", ""),
    ("homelab:Traefik", "traefik", ""),
    (FLASH, "node3-flash", "homelab:Node::node3"),
    (FLASH, "node30-flash", "homelab:Node::node30"),
    (CHART, "traefik-chart", "homelab:Traefik::traefik"),
    (f"{CHART}$kubernetes:apps/v1:Deployment", "traefik-chart:traefik/traefik", f"{CHART}::traefik-chart"),
    (f"{CHART}$kubernetes:core/v1:PersistentVolumeClaim", "traefik-chart:traefik/data", f"{CHART}::traefik-chart"),
    ("kubernetes:core/v1:Node", "node9", ""),
]
KAMAJI = [("homelab:Kamaji", "kamaji"), ("homelab:Tenant", "school")]
STATE = [
    Resource(f"{BASE}{kind}::{name}", kind.split("$")[-1], f"{BASE}{parent}" if parent else "")
    for kind, name, parent in PARTS
]


def test_a_node_and_its_parts_and_not_its_namesakes() -> None:
    found = leaving.find(STATE, "node3")
    assert [part.name for part in found.parts] == ["node3", "node3-flash"]
    assert found.target == "**::node3"


def test_a_part_of_the_platform_and_all_below_it() -> None:
    found = leaving.find(STATE, "traefik")
    assert [part.name.rsplit("/")[-1] for part in found.parts] == ["traefik", "traefik-chart", "traefik", "data"]
    assert found.component == "Traefik"


def test_what_tenants_are_made_of_stays_as_long_as_there_is_one() -> None:
    operator, tenant = (Resource(f"{BASE}{kind}::{name}", kind) for kind, name in KAMAJI)
    assert leaving.find([*STATE, operator], "kamaji").name == "kamaji"
    assert leaving.find([*STATE, operator, tenant], "school").name == "school"
    with pytest.raises(RefusedError, match="kamaji stays: school would end with it"):
        leaving.find([*STATE, operator, tenant], "kamaji")


def test_a_parts_story_counts_objects_and_names_its_volumes(tmp_path: Path) -> None:
    told = leaving.story(lab(tmp_path), leaving.find(STATE, "traefik"))
    assert told[0] == "its 2 Kubernetes objects are deleted"
    assert "traefik-chart:traefik/data" in told[1]


@pytest.mark.parametrize("name", ["control-plane", "node31", "node9", "*", "", "node3-flash", "Node3"])
def test_what_is_no_node_is_not_aimed_at(name: str) -> None:
    with pytest.raises(UserError, match=r"no node or part '.*' in this stack; (did you mean|known)"):
        leaving.find(STATE, name)


def test_the_only_control_plane_stays(tmp_path: Path) -> None:
    """4c.19"""
    with pytest.raises(RefusedError, match="node1 is the last control plane"):
        leaving.refuse_harm(lab(tmp_path), leaving.Leaving("node1", ()))


def test_a_worker_may_always_leave(tmp_path: Path) -> None:
    leaving.refuse_harm(lab(tmp_path), leaving.Leaving("node2", ()))


def test_one_of_three_may_leave_before_there_is_an_etcd(tmp_path: Path) -> None:
    leaving.refuse_harm(lab(tmp_path, control_planes=3), leaving.Leaving("node2", ()))


def host(name: str) -> leaving.Leaving:
    return leaving.Leaving(name, (), "Host")


def test_a_host_may_leave_but_for_the_last_of_its_control_planes(tmp_path: Path) -> None:
    leaving.refuse_harm(garage(tmp_path), host("rpi2"))
    leaving.refuse_harm(garage(tmp_path, servers=3), host("rpi1"))
    with pytest.raises(RefusedError, match=r"last control plane of garage; `homelab destroy-target garage`"):
        leaving.refuse_harm(garage(tmp_path), host("rpi1"))


@pytest.mark.parametrize(("ready", "word"), [("True", ""), ("False", "1 of 2 etcd members would be healthy")])
def test_a_host_stays_when_its_etcd_would_lose_the_quorum(tmp_path: Path, ready: str, word: str) -> None:
    authority, known = Authority(), garage(tmp_path, servers=3)
    items = [server("rpi1", "True"), server("rpi2", "True"), server("rpi3", ready)]
    with answering(200, json.dumps({"items": items}), authority, tmp_path) as url:
        credentials.leave(known.stack, {"kubeconfigs": {"garage": kubeconfig(authority, url)}})
        if not word:
            leaving.refuse_harm(known, host("rpi2"))
            return
        with pytest.raises(RefusedError, match=f"rpi2 stays: .*{word}"):
            leaving.refuse_harm(known, host("rpi2"))


def test_a_host_stays_when_nobody_says_how_its_etcd_is(tmp_path: Path) -> None:
    known = garage(tmp_path, servers=3)
    credentials.leave(known.stack, {"kubeconfigs": {"garage": kubeconfig(Authority(), "https://127.107.2.5:6443")}})
    with pytest.raises(RefusedError, match="it can't be known what its leaving costs"):
        leaving.refuse_harm(known, host("rpi2"))


def server(name: str, ready: str) -> dict[str, Any]:
    labels = {f"node-role.kubernetes.io/{role}": "true" for role in ("control-plane", "etcd")}
    status = {"conditions": [{"type": "Ready", "status": ready}]}
    return {"metadata": {"name": name, "uid": name, "labels": labels}, "status": status}


@pytest.mark.parametrize(
    ("component", "said", "unsaid"),
    [
        ("Host", "Kubernetes is removed from it", "wiped"),
        ("PoolNode", "switched off, where its BMC can", "wiped"),
        ("K3s", "the whole cluster ends, and everything that it stored: rpi1", "objects"),
        ("Card", "what is written on the card stays", "objects"),
    ],
)
def test_the_story_of_what_is_no_node(tmp_path: Path, component: str, said: str, unsaid: str) -> None:
    parts = (Resource(f"{BASE}homelab:Host::rpi1", "homelab:Host"),)
    told = " ".join(leaving.story(garage(tmp_path), leaving.Leaving("rpi1", parts, component)))
    assert said in told
    assert unsaid not in told


def test_the_story_names_etcd_for_control_planes_only(tmp_path: Path) -> None:
    known = lab(tmp_path)
    of = [" ".join(leaving.story(known, leaving.Leaving(name, ()))) for name in ("node1", "node2")]
    assert "etcd" in of[0]
    assert "etcd" not in of[1]
    assert all("STATE and EPHEMERAL" in told for told in of)


def test_the_story_names_replicas_where_there_is_longhorn(tmp_path: Path) -> None:
    without = lab(tmp_path)
    longhorn = without.settings.platform.model_copy(update={"longhorn": Longhorn()})
    stores = dataclasses.replace(without, settings=without.settings.model_copy(update={"platform": longhorn}))
    of = ["\n".join(leaving.story(known, leaving.Leaving("node2", ()))) for known in (without, stores)]
    assert "replicas" not in of[0]
    assert of[1].startswith("replicas of Longhorn's volumes move to other nodes")
