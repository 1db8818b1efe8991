"""What the stack's state says was applied: nodes with their machine configs, Kubernetes objects, Helm's releases.

The wire is the engine's deployment document (`pulumi stack export --show-secrets`), version 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from providers.deployment import inputs, opened, parts

MACHINE = "pulumi-python:dynamic/talos:Machine"
HOST = "pulumi-python:dynamic/k3s:Node"
POWER = "pulumi-python:dynamic/turingpi:Power"
RELEASE = "kubernetes:helm.sh/v3:Release"
DEFINITIONS = "pulumi-python:dynamic/kubernetes:Definitions"
DEFINITION_API = "apiextensions.k8s.io/v1"
NO_OBJECT = "kubernetes:helm.sh/"


@dataclass(frozen=True)
class Machine:
    """A node of the state. `props` are the inputs of its Machine, secrets in plain."""

    node: str
    props: Mapping[str, Any] = field(repr=False)

    @property
    def is_control_plane(self) -> bool:
        """Whether it runs etcd."""
        return bool(self.props["spec"]["role"] == "controlplane")


@dataclass(frozen=True, eq=False)  # each is itself: what was applied has no hash
class Object:
    """A Kubernetes object of the state. `manifest` is what was applied, secrets in plain.

    Attributes:
        part: the part of the platform that it belongs to.
        namespace: as the cluster knows it; "" for one that is in none.
    """

    part: str
    api: str
    kind: str
    namespace: str
    name: str
    manifest: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return "/".join(word for word in (self.kind, self.namespace, self.name) if word)


@dataclass(frozen=True)
class Release:
    """A chart that Helm installed."""

    part: str
    namespace: str
    name: str
    version: str
    revision: int  # Helm's own count, from 1; 0 when the state does not say


@dataclass(frozen=True)
class Applied:
    """All of it.

    Attributes:
        slots: node -> its board's URL and its slot, as they were when its power was last set.
        hosts: host of a k3s cluster -> the inputs of its Node, secrets in plain.
    """

    machines: Mapping[str, Machine] = field(default_factory=dict)
    slots: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    objects: tuple[Object, ...] = ()
    releases: tuple[Release, ...] = ()
    hosts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)


def read(resources: Iterable[Mapping[str, Any]]) -> Applied:
    """What a deployment's resources say; what a run was about to delete is left out."""
    every = list(resources)
    inside = parts(every)
    live = [item for item in every if item.get("custom") and not item.get("delete")]
    definitions = [kind for item in live if item["type"] == DEFINITIONS for kind in _kinds(item, inside[item["urn"]])]
    machines = [_machine(item) for item in live if item["type"] == MACHINE]
    return Applied(
        machines={machine.node: machine for machine in machines},
        slots=dict(_slot(item) for item in live if item["type"] == POWER),
        objects=(*(_object(item, inside[item["urn"]]) for item in live if _is_object(item)), *definitions),
        releases=tuple(_release(item, inside[item["urn"]]) for item in live if item["type"] == RELEASE),
        hosts={str(props["host"]): props for props in (inputs(item) for item in live if item["type"] == HOST)},
    )


def _machine(item: Mapping[str, Any]) -> Machine:
    props = inputs(item)
    return Machine(str(props["node"]), props)


def _slot(item: Mapping[str, Any]) -> tuple[str, tuple[str, int]]:
    props = inputs(item)
    return str(props["node"]), (str(props["board"]), int(props["slot"]))


def _is_object(item: Mapping[str, Any]) -> bool:
    kind = str(item["type"])
    return kind.startswith("kubernetes:") and not kind.startswith(NO_OBJECT) and "kind" in (item.get("inputs") or {})


def _object(item: Mapping[str, Any], part: str) -> Object:
    manifest = opened(item["inputs"])
    namespace, _, name = str(item["id"]).rpartition("/")
    return Object(part, manifest["apiVersion"], manifest["kind"], namespace, name, manifest)


def _release(item: Mapping[str, Any], part: str) -> Release:
    status = opened(item.get("outputs") or {}).get("status") or {}
    namespace, _, name = str(item["id"]).rpartition("/")
    return Release(part, namespace, name, str(inputs(item).get("version", "")), int(status.get("revision") or 0))


def _kinds(item: Mapping[str, Any], part: str) -> Iterator[Object]:
    """The definitions that a chart brought; state has their names alone."""
    for name in opened(item.get("outputs") or {}).get("names") or ():
        yield Object(part, DEFINITION_API, "CustomResourceDefinition", "", str(name), {})
