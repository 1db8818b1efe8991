"""A real API server takes what the stand-in charts render and what the program adds to it, with no field too many."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.components.house import build
from tests.components.house import lab as house
from tests.components.house import objects as added
from tests.twin.players_lab import Lab, wait
from tests.twin.test_charts_render import HELM, Object, objects, set_by
from tests.twin.test_charts_values import NAMES, PROGRAM
from tools import paths
from twin.kubernetes.api import ApiError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not paths.servers_bin().exists() or not HELM.exists(), reason="make tools builds them"),
    pytest.mark.timeout(240),
]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
DEFAULTS = [(name, "{}") for name in NAMES]
SET = [(name, set_by(lab, name)) for name in NAMES for lab in PROGRAM]


class Taker:
    """A cluster that holds all definitions and namespaces, and is asked about the rest without keeping any of it."""

    def __init__(self) -> None:
        self.lab = Lab(1)
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def ask(self, found: Object, *, keep: bool = False) -> str:
        """What the server has against an object, a field that it doesn't know included; nothing if it would take it."""
        plural, namespaced = self._kind(found["apiVersion"], found["kind"])
        root = "/api" if "/" not in found["apiVersion"] else "/apis"
        space = f"/namespaces/{found['metadata']['namespace']}" if namespaced else ""
        asked = f"fieldManager=test&force=true&fieldValidation=Strict{'' if keep else '&dryRun=All'}"
        path = f"{root}/{found['apiVersion']}{space}/{plural}/{found['metadata']['name']}?{asked}"
        try:
            self.lab.call("_call", "PATCH", path, found, "application/apply-patch+yaml")
        except ApiError as error:
            return f"{found['kind']} {found['metadata']['name']}: {error}"
        return ""

    def _kind(self, version: str, kind: str) -> tuple[str, bool]:
        if (version, kind) not in self._kinds:
            root = "/api" if "/" not in version else "/apis"
            for it in self.lab.call("get", f"{root}/{version}")["resources"]:
                if "/" not in it["name"]:
                    self._kinds[version, it["kind"]] = (it["name"], it["namespaced"])
        return self._kinds[version, kind]


@pytest.fixture(scope="module", name="taker")
def _taker() -> Iterator[Taker]:
    made = Taker()
    try:
        prepare(made)
        yield made
    finally:
        made.lab.scene.close()


def prepare(taker: Taker) -> None:
    """Let the cluster have every definition, and the namespaces that objects go to."""
    every = [it for name, values in SET for it in objects(name, values)]
    definitions = {it["metadata"]["name"]: it for it in every if it["kind"] == "CustomResourceDefinition"}
    names = {it["metadata"].get("namespace", "default") for it in [*every, *program()]} - {"default", "kube-system"}
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in sorted(names)]
    faults = [taker.ask(it, keep=True) for it in (*definitions.values(), *spaces)]
    assert [fault for fault in faults if fault] == []
    wait(lambda: all(established(it) for it in taker.lab.items(CRDS)), 60)


def established(definition: Object) -> bool:
    conditions = {it["type"]: it["status"] for it in definition.get("status", {}).get("conditions", [])}
    return conditions.get("Established") == "True" and conditions.get("NonStructuralSchema") != "True"


def program() -> list[Object]:
    """The objects that the program makes itself, as the engine would send them."""
    return [plain(found) for found in added(build(house()))]


def plain(value: Any) -> Any:
    """Inputs without what the engine adds: secrets unwrapped, what isn't set left out."""
    if isinstance(value, dict) and set(value) == {"4dabf18193072939515e22adb298388d", "value"}:
        return plain(value["value"])
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    return [plain(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(("name", "values"), [*DEFAULTS, *SET], ids=lambda it: it if len(it) < 30 else "set")
def test_the_server_takes_every_object_of_a_chart(taker: Taker, name: str, values: str) -> None:
    # Hooks are among them; definitions are there already.
    faults = [taker.ask(it) for it in objects(name, values) if it["kind"] != "CustomResourceDefinition"]
    assert [fault for fault in faults if fault] == []


def test_the_server_takes_every_object_that_the_program_adds(taker: Taker) -> None:
    found = program()
    assert {"IPAddressPool", "Certificate", "Middleware", "RecurringJob", "PrometheusRule"} <= {
        it["kind"] for it in found
    }
    faults = [taker.ask(it) for it in found]
    assert [fault for fault in faults if fault] == []


@pytest.mark.parametrize(
    ("kind", "version", "spec", "fault"),
    [
        ("IPAddressPool", "metallb.io/v1beta1", {"addresses": ["192.0.2.0/24"], "autoasign": True}, "autoasign"),
        ("IPAddressPool", "metallb.io/v1beta1", {}, "spec.addresses"),
        ("Certificate", "cert-manager.io/v1", {"secretName": "a", "issuerRef": {"nam": "b"}}, "nam"),
        ("IngressRoute", "traefik.io/v1alpha1", {"routes": [{"kind": "Rule"}]}, "match"),
        ("RecurringJob", "longhorn.io/v1beta2", {"task": "snapshots"}, "snapshots"),
        ("PrometheusRule", "monitoring.coreos.com/v1", {"groups": [{"name": "a", "rules": [{"exp": "1"}]}]}, "exp"),
    ],
)
def test_what_upstream_would_refuse_is_refused(taker: Taker, kind: str, version: str, spec: Object, fault: str) -> None:
    metadata = {"name": "wrong", "namespace": "default"}
    said = taker.ask({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    assert fault in said, json.dumps(spec)
