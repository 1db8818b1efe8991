"""Live objects against what was applied: a real API server's answers say the same, a change by hand is seen."""

from __future__ import annotations

import base64
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from drift.compare import differences
from providers.deployment import HIDDEN

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))


def pair(kind: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was applied, and what the API server answered."""
    found = json.loads((Path(__file__).parent / "recorded" / f"{kind}.json").read_text())
    return found["applied"], found["live"]


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.stem)
def test_what_the_api_server_made_of_it_is_no_difference(file: Path) -> None:
    found = json.loads(file.read_text())
    assert differences(found["applied"], found["live"]) == ()


def test_there_are_recordings() -> None:
    assert len(RECORDED) >= 10


def changed(kind: str, path: str, value: Any) -> tuple[str, ...]:
    """The differences after somebody has put a value into the live object; None takes it away."""
    applied, live = pair(kind)
    *way, last = path.split("/")
    at: Any = live
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if value is None:
        del at[int(last) if isinstance(at, list) else last]
    else:
        at[int(last) if isinstance(at, list) else last] = value
    return differences(applied, live)


POD = "spec/template/spec/containers"
AT = "spec.template.spec.containers"
BY_HAND = [
    ("Deployment", "spec/replicas", 3, "spec.replicas"),
    ("Deployment", f"{POD}/1/image", "evil:latest", f"{AT}[csi-resizer].image"),
    ("Deployment", f"{POD}/0", None, f"{AT}[csi-provisioner]"),
    ("Deployment", f"{POD}/0/args/0", "-v=9", f"{AT}[csi-provisioner].args[0]"),
    ("Deployment", f"{POD}/0/args/0", None, f"{AT}[csi-provisioner].args"),
    ("Deployment", "metadata/labels", None, "metadata.labels"),
    ("Service", "spec/ports/0/targetPort", 1, "spec.ports[https].targetPort"),
    ("IPAddressPool", "spec/addresses/0", "10.0.0.1-10.0.0.2", "spec.addresses[0]"),
    ("ClusterRole", "rules/0/verbs", ["*"], "rules[0].verbs"),
    ("StorageClass", "parameters/server", "10.0.0.66", "parameters.server"),
    ("CronJob", "spec/suspend", None, ""),
    ("CronJob", "spec/schedule", "0 0 1 1 *", "spec.schedule"),
    ("Ingress", "spec/rules/0/host", "other.local", "spec.rules[0].host"),
    ("ValidatingWebhookConfiguration", "webhooks/0/failurePolicy", "Maybe", None),
]


@pytest.mark.parametrize(("kind", "path", "value", "place"), BY_HAND)
def test_a_change_by_hand_is_told_by_its_place(kind: str, path: str, value: Any, place: str | None) -> None:
    found = changed(kind, path, value)
    if place is None:
        assert len(found) == 1
        assert found[0].endswith("failurePolicy")
    else:
        assert found == ((place,) if place else ())


def test_what_others_add_is_theirs() -> None:
    applied, live = pair("Deployment")
    live["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    live["spec"]["template"]["spec"]["containers"].append({"name": "sidecar", "image": "istio"})
    live["status"] = {"replicas": 0}
    assert differences(applied, live) == ()


def test_values_are_never_told() -> None:
    applied = {"kind": "Secret", "stringData": {"password": "hunter2"}}
    live = {"kind": "Secret", "data": {"password": base64.b64encode(b"letmein").decode()}}
    assert differences(applied, live) == ("data.password",)


def test_a_secrets_texts_are_compared_as_the_api_server_keeps_them() -> None:
    applied = {"kind": "Secret", "stringData": {"password": "hunter2"}}
    assert differences(applied, {"kind": "Secret", "data": {"password": "aHVudGVyMg=="}}) == ()


def test_a_secret_that_cannot_be_opened_here_is_not_judged() -> None:
    applied = {"kind": "Secret", "stringData": {"password": HIDDEN}, "data": {"user": "cm9vdA=="}}
    live = {"kind": "Secret", "data": {"password": "eA==", "user": "eA=="}}
    assert differences(applied, live) == ("data.user",)


@pytest.mark.parametrize(
    ("applied", "live", "same"),
    [
        ("1000m", "1", True), ("0.5", "500m", True), ("1Gi", "1024Mi", True), (2, "2", True), ("2G", "2Gi", False),
        ("100m", "100M", False), ("1e3", "1k", True), (True, 1, False), (1, True, False), ("x", "y", False),
        ("128Mi", None, False), ("", None, True), (0, None, True), (False, None, True), ([], None, True),
        ({}, None, True),
        ({}, {"a": 1}, True), ([], ["a"], False), (None, "x", True), ("0", None, False),
    ],
)  # fmt: skip
def test_amounts_and_empty_values(applied: Any, live: Any, same: bool) -> None:
    found = differences({"spec": {"memory": applied}}, {"spec": {"memory": live} if live is not None else {}})
    assert found == (() if same else ("spec.memory",))


def test_a_label_that_looks_like_an_amount_is_a_text() -> None:
    applied = {"metadata": {"labels": {"version": "1000m"}}}
    assert differences(applied, {"metadata": {"labels": {"version": "1"}}}) == ("metadata.labels.version",)


def test_rules_that_kubernetes_gathers_by_itself() -> None:
    applied = {"kind": "ClusterRole", "aggregationRule": {"clusterRoleSelectors": []}, "rules": []}
    assert differences(applied, {**applied, "rules": [{"verbs": ["get"]}]}) == ()


def test_finalizers_of_others() -> None:
    applied = {"metadata": {"finalizers": ["ours"]}}
    assert differences(applied, {"metadata": {"finalizers": ["theirs", "ours"]}}) == ()
    assert differences(applied, {"metadata": {"finalizers": ["theirs"]}}) == ("metadata.finalizers",)


def test_the_engines_spelling_of_a_schemas_extensions() -> None:
    applied = {"spec": {"x_kubernetes_preserve_unknown_fields": True}}
    assert differences(applied, {"spec": {"x-kubernetes-preserve-unknown-fields": True}}) == ()
    assert differences(applied, {"spec": {}}) == ("spec.x-kubernetes-preserve-unknown-fields",)


def test_names_that_are_there_twice_are_compared_in_their_order() -> None:
    applied = {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}
    assert differences(applied, copy.deepcopy(applied)) == ()
    assert differences(applied, {"env": list(reversed(applied["env"]))}) == ("env[0].value", "env[1].value")
