"""Each rule with what passes and what does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from policy.known import Known, KnownNode
from policy.models import Policy, Reaction
from policy.pinned import why_floating
from policy.rules import Breach, Facts, breaches, stale_backup, upgrades
from settings.problems import dotted
from tests.policy.lab import EXTENSIONS, KUBERNETES, TALOS, known, lab

NOW = datetime(2026, 3, 1, 3, 30, tzinfo=UTC)


def broken(
    rules: dict[str, Any],
    change: dict[str, Any] | None = None,
    there: Known | None = None,
    newest: datetime | None = None,
) -> list[Breach]:
    return list(breaches(Policy.model_validate(rules), lab(change), Facts(there, newest, NOW)))


def places(found: list[Breach]) -> list[tuple[str, str]]:
    return [(dotted(breach.rule), dotted(breach.where)) for breach in found]


def test_without_a_file_the_shipped_lab_passes() -> None:
    assert broken({}) == []


# -- control planes ---------------------------------------------------------------------------------------------


def test_enough_control_planes() -> None:
    assert broken({"control_planes": {"at_least": 3}}) == []


def test_too_few_control_planes() -> None:
    (found,) = broken({"control_planes": {"at_least": 3}}, {"nodes/node3/disabled": True})
    assert places([found]) == [("control_planes.at_least", "nodes")]
    assert found.message == "2 control planes (node1, node2) where at least 3 are wanted"
    assert found.fix == "give 1 more nodes the role controlplane, or lower the rule"
    assert found.reaction is Reaction.REFUSE


# -- public addresses -------------------------------------------------------------------------------------------

SUBNET = {"cluster/network": {"subnet": "203.0.113.0/24"}, "cluster/endpoint/vip": "203.0.113.70"}
HOUSE = {
    **SUBNET,
    **{f"nodes/node{n}/address": f"203.0.113.7{n}" for n in (1, 2, 3, 4)},
    "boards/board1/address": "203.0.113.60",
}


@pytest.mark.parametrize(
    "allowed", [["203.0.113.0/24"], ["203.0.113.200-203.0.113.250"], ["198.51.100.0/24", "203.0.113.192/26"]]
)
def test_a_public_range_that_is_meant(allowed: list[str]) -> None:
    change = {**HOUSE, "platform/pools": ["203.0.113.200-203.0.113.250"]}
    assert broken({"load_balancers": {"public": "refuse", "allowed": allowed}}, change) == []


@pytest.mark.parametrize("reaction", list(Reaction))
def test_a_public_range(reaction: Reaction) -> None:
    change = {**HOUSE, "platform/pools": ["203.0.113.200-203.0.113.250"]}
    found = broken({"load_balancers": {"public": reaction, "allowed": ["203.0.113.200/32"]}}, change)
    if reaction is Reaction.ALLOW:
        assert found == []
        return
    assert places(found) == [("load_balancers.public", "platform.pools[0]")]
    assert found[0].message == "203.0.113.200-203.0.113.250 has public addresses"
    assert found[0].reaction is reaction


# -- versions ---------------------------------------------------------------------------------------------------

DIGEST = "@sha256:" + "a" * 64
STAYS = (
    *("nginx:1.29.1", "nginx:v1.2", "postgres:16.4-alpine", "a/b:2026-01-03", "r:5.3.7-0.16.17-r1"),
    *(f"nginx{DIGEST}", f"nginx:latest{DIGEST}", "registry:5000/x:1.2.3", "x:20260103"),
)
MOVES = (
    *("nginx", "registry:5000/x", "nginx:latest", "nginx:stable-alpine", "nginx:alpine"),
    *("redis:7", "redis:v7", "redis:7-alpine", "redis:7-alpine3.22", "x:1.2-nightly", "x:main-3f2a"),
)


@pytest.mark.parametrize("image", STAYS)
def test_names_that_stay(image: str) -> None:
    assert why_floating(image) == ""


@pytest.mark.parametrize("image", MOVES)
def test_names_that_move(image: str) -> None:
    assert why_floating(image) != ""


PINNED = [
    {"platform/applications/web/image": "redis:7.4.1"},
    {"cluster/talos/image": "images/metal-arm64.raw.xz"},
    {"cluster/talos/image": "https://x.example/a.raw.xz", "cluster/talos/sha256": "a" * 64},
    {"platform/metallb": {"values": {"speaker": {"image": {"repository": "x", "tag": "v0.15.2"}}}}},
    {"platform/metallb": {"values": {"speaker": {"image": {"repository": "x", "tag": ""}}}}},
    {"platform/metallb": {"values": {"image": {"tag": "latest", "digest": "sha256:x"}}}},
    {"platform/monitoring": {"grafana_plugins": ["grafana-clock-panel 2.1.3"]}},
    {"cluster/patches": [{"cluster": {"apiServer": {"image": "registry.k8s.io/kube-apiserver:v1.36.1"}}}]},
]
FLOATING = [
    ({"platform/applications/web/image": "redis:7"}, "platform.applications.web.image"),
    ({"cluster/talos/image": "https://x.example/a.raw.xz"}, "cluster.talos.image"),
    (
        {"platform/metallb": {"values": {"speaker": {"image": {"repository": "x", "tag": "latest"}}}}},
        "platform.metallb.values.speaker.image.tag",
    ),
    (
        {"platform/metallb": {"values": {"sidecars": [{"image": "x:latest"}]}}},
        "platform.metallb.values.sidecars[0].image",
    ),
    ({"platform/metallb": {"values": {"imageTag": "edge"}}}, "platform.metallb.values.imageTag"),
    ({"platform/monitoring": {"grafana_plugins": ["grafana-clock-panel"]}}, "platform.monitoring.grafana_plugins[0]"),
    ({"cluster/patches": [{"cluster": {"apiServer": {"image": "x/y"}}}]}, "cluster.patches[0].cluster.apiServer.image"),
    (
        {"nodes/node1/patches": [{"machine": {"kubelet": {"image": "x/y:latest"}}}]},
        "nodes.node1.patches[0].machine.kubelet.image",
    ),
]


@pytest.mark.parametrize("change", PINNED)
def test_versions_that_stay(change: dict[str, Any]) -> None:
    assert broken({"versions": {"floating": "refuse"}}, change) == []


@pytest.mark.parametrize(("change", "place"), FLOATING)
def test_versions_that_float(change: dict[str, Any], place: str) -> None:
    found = broken({"versions": {"floating": "refuse"}}, change)
    assert places(found) == [("versions.floating", place)]
    assert broken({"versions": {"floating": "allow"}}, change) == []
    assert [breach.reaction for breach in broken({}, change)] == [Reaction.WARN]


# -- wipes ------------------------------------------------------------------------------------------------------

WIPE = {"acknowledge": True}


def stored() -> Known:
    return Known(known().nodes, frozenset({"longhorn", "web"}))


WIPES: list[tuple[dict[str, Any], Known, str, str]] = [
    ({"nodes/node3/generation": 2}, known(), "node3: 2", "erases the disk of node3 for generation 2"),
    ({"nodes/node4/disabled": True}, known(), "node4: leaves", "takes node4 out and resets it"),
    ({"nodes/node4": None}, known(), "node4: leaves", "takes node4 out and resets it"),
    ({"platform/longhorn": {}, "platform/applications/web": None}, stored(), "web: leaves", "takes web away"),
    ({}, stored(), "longhorn: leaves", "takes longhorn away, and its volumes with it"),
    ({"nodes/node4/generation": 2}, Known(), "node4: 2", "erases the disk of node4 for generation 2"),
]


@pytest.mark.parametrize(("change", "there", "word", "message"), WIPES)
def test_what_is_erased_needs_a_word(change: dict[str, Any], there: Known, word: str, message: str) -> None:
    (found,) = broken({"wipe": WIPE}, change, there)
    assert dotted(found.rule) == "wipe.acknowledge"
    assert message in found.message
    assert found.fix == f"if that is meant, write `{word}` under wipe.acknowledged"


@pytest.mark.parametrize(("change", "there", "word", "message"), WIPES)
def test_what_was_acknowledged_passes(change: dict[str, Any], there: Known, word: str, message: str) -> None:
    name, _, said = word.partition(": ")
    given = {name: int(said) if said.isdigit() else said}
    assert broken({"wipe": {**WIPE, "acknowledged": given}}, change, there) == []


def test_a_word_for_another_generation_is_none() -> None:
    assert broken({"wipe": {**WIPE, "acknowledged": {"node3": 2}}}, {"nodes/node3/generation": 3}, known())


def test_nothing_is_erased() -> None:
    assert broken({"wipe": WIPE}, {}, known()) == []
    assert broken({"wipe": WIPE}, {}, Known()) == []  # a first `up`


def test_without_the_rule_the_settings_word_is_enough() -> None:
    assert broken({}, {"nodes/node3/generation": 2, "nodes/node4": None}, known()) == []


# -- backups ----------------------------------------------------------------------------------------------------

DAY = {"backups": {"max_age_hours": 24}}
OLDER = {"node2": KnownNode(1, "v1.12.7", KUBERNETES, EXTENSIONS)}


@pytest.mark.parametrize(
    ("there", "words"),
    [
        (known(), ()),
        (known(**OLDER), (f"Talos v1.12.7 -> {TALOS} on node2",)),
        (known(node1=KnownNode(1, TALOS, "v1.35.4")), (f"Kubernetes v1.35.4 -> {KUBERNETES} on node1",)),
        (known(node1=KnownNode(1, TALOS, KUBERNETES, frozenset())), ("other system extensions on node1",)),
        (known(node1=KnownNode(1)), ()),
        (Known(), ()),
    ],
)
def test_what_an_upgrade_is(there: Known, words: tuple[str, ...]) -> None:
    assert upgrades(lab(), there) == words


def test_an_upgrade_with_a_fresh_backup() -> None:
    assert broken(DAY, {}, known(**OLDER), NOW - timedelta(hours=24)) == []


@pytest.mark.parametrize(
    ("newest", "seen"),
    [
        (None, "no backup of etcd is known"),
        (NOW - timedelta(hours=25), "the newest backup of etcd is 25 h old"),
        (NOW - timedelta(days=9), "the newest backup of etcd is 9 days old"),
    ],
)
def test_an_upgrade_without_a_fresh_backup(newest: datetime | None, seen: str) -> None:
    (found,) = broken(DAY, {}, known(**OLDER), newest)
    assert places([found]) == [("backups.max_age_hours", "cluster")]
    assert found.message == f"{seen}, and an upgrade wants one of the last 24 h"
    assert found.fix == "type `homelab backup`, then this again"


def test_a_twin_is_where_upgrades_are_tried_out() -> None:
    here = {f"nodes/node{number}/address": f"127.20.0.1{number}" for number in (1, 2, 3, 4)}
    twin = {
        **here,
        "cluster/endpoint/vip": "127.20.0.10",
        "boards/board1/address": "127.20.0.60",
        "platform/pools": ["127.20.0.200-127.20.0.250"],
    }
    assert broken(DAY, twin, known(**OLDER), None) == []


def test_no_upgrade_needs_no_backup() -> None:
    assert broken(DAY, {}, known(), None) == []


def test_the_hook_for_whoever_upgrades() -> None:
    policy = Policy.model_validate(DAY)
    assert list(stale_backup(policy, NOW - timedelta(hours=1), NOW)) == []
    assert len(list(stale_backup(policy, None, NOW))) == 1
    assert list(stale_backup(Policy(), None, NOW)) == []


def test_every_broken_rule_is_told_at_once() -> None:
    rules = {"control_planes": {"at_least": 5}, "versions": {"floating": "refuse"}, "wipe": WIPE, **DAY}
    change = {"platform/applications/web/image": "redis:7", "nodes/node3/generation": 2}
    found = broken(rules, change, known(**OLDER))
    assert [dotted(breach.rule) for breach in found] == [
        "control_planes.at_least",
        "versions.floating",
        "wipe.acknowledge",
        "backups.max_age_hours",
    ]
