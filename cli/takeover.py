"""Settings for a cluster as it runs, and the proof that they change nothing: they render what the nodes have."""

from __future__ import annotations

import base64
import binascii
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cli import new_settings
from cli.stacks import Stack
from components.spec import spec
from providers.discovery.cluster import Member
from providers.discovery.description import Described, describe
from providers.errors import UserError
from providers.talos import difference, documents, plan
from providers.talos.config import NodeConfig, render
from providers.talos.difference import Change
from providers.talos.secrets import SecretsBundle
from settings import Problem, Settings
from settings.models import plain
from settings.patches import OWNED, OWNED_KINDS
from settings.problems import Where
from settings.secrets import in_plain

Sections = dict[str, dict[str, Any]]
_PRIVATE = ("PRIVATE KEY-----", "kind: Secret")
_ORIGIN = "Written by `homelab adopt` from the cluster as it runs."


@dataclass(frozen=True)
class Taken:
    """What a takeover comes to.

    Attributes:
        name: the cluster's.
        text: the settings file.
        secrets: what belongs into it encrypted, by path.
        kept: how many differences are patches.
        left: what the first `up` would change, each with what it does to the node.
        boards: their names.
        warnings: of the settings.
    """

    name: str
    text: str = field(repr=False)
    secrets: dict[str, str] = field(repr=False)
    kept: int
    left: tuple[str, ...]
    boards: tuple[str, ...]
    warnings: tuple[Problem, ...]


def take(
    members: Sequence[Member],
    boards: Mapping[str, dict[str, Any]],
    slots: Mapping[str, tuple[str, int]],
    stack: Stack,
    vip: str = "",
) -> Taken:
    """The settings of a cluster, with patches for all that they can't say themselves.

    Raises:
        SettingsError: the cluster is one that settings don't take, such as a Talos that this program doesn't know.
        UserError: nodes run different versions, or a control plane's config lacks a secret.
    """
    bundle = SecretsBundle.from_machine_config(next(member for member in members if member.leads).config)
    sections = _sections(describe(members, vip), boards, slots)
    bare = _settings(sections, stack)
    differing = {
        member.name: _keepable(difference.changes(_rendered(member, bare, bundle), _wished(member, bare)))
        for member in members
    }
    _with_patches(sections, differing)
    lab = _settings(sections, stack)
    left = tuple(line for member in members for line in _left(member, lab, bundle))
    public, secrets = parted(sections)
    return Taken(
        name=lab.cluster.name,
        text=new_settings.text_of(public, stack, _ORIGIN),
        secrets=secrets,
        kept=len({change.where for found in differing.values() for change in found}),
        left=tuple(dict.fromkeys(left)),
        boards=tuple(lab.boards),
        warnings=tuple(warning for warning in lab.warnings if warning.where[-1] != "password"),
    )


def _sections(
    described: Described, boards: Mapping[str, dict[str, Any]], slots: Mapping[str, tuple[str, int]]
) -> Sections:
    nodes = {
        name: {**node, "machine": {"board": slots[name][0], "slot": slots[name][1]}}
        for name, node in described.nodes.items()
    }
    used = {board for board, _ in slots.values()}
    return {
        "cluster": described.cluster,
        "boards": {name: board for name, board in boards.items() if name in used},
        "nodes": nodes,
    }


def _settings(sections: Sections, stack: Stack) -> Settings:
    """The sections as the program will read them, secrets in plain."""
    public, _ = parted(sections)
    return new_settings.checked(new_settings.text_of(public, stack, _ORIGIN), stack, sections)


def _rendered(member: Member, lab: Settings, bundle: SecretsBundle) -> str:
    logins = {
        host: {"username": login.username, "password": plain(login.password)}
        for host, login in lab.cluster.registries.credentials.items()
    }
    return render(NodeConfig.from_dict({**spec(lab.nodes[member.name], lab), "credentials": logins}), bundle)


def _wished(member: Member, lab: Settings) -> str:
    """What the node is to have: what it has, and the VIP where its control planes shared none before.

    Raises:
        UserError: nobody can tell on which of its interfaces.
    """
    config = documents.load(member.config)
    network = documents.main(config).setdefault("machine", {}).setdefault("network", {})
    interfaces: list[dict[str, Any]] = network.get("interfaces") or []
    if not member.leads or any(item.get("vip") for item in interfaces):
        return member.config
    # Without a word on interfaces, Talos asks DHCP on every one.
    network["interfaces"] = interfaces or [{"deviceSelector": {"hardwareAddr": member.mac}, "dhcp": True}]
    _own_interface(member, network["interfaces"])["vip"] = {"ip": str(lab.cluster.endpoint.vip)}
    return documents.dump(config)


def _own_interface(member: Member, interfaces: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [item for item in interfaces if _is_on(item, member)] or (interfaces if len(interfaces) == 1 else [])
    if len(mine) != 1:
        raise UserError(
            f"{member.name}: which of its {len(interfaces)} interfaces shall have the VIP? Put it there "
            f"(machine.network.interfaces[].vip) on every control plane first"
        )
    return mine[0]


def _is_on(item: Mapping[str, Any], member: Member) -> bool:
    selected = str((item.get("deviceSelector") or {}).get("hardwareAddr", "")).lower()
    return item.get("interface") == member.link or selected == member.mac


def _keepable(found: Sequence[Change]) -> list[Change]:
    return [change for change in found if not _is_owned(change)]


def _is_owned(change: Change) -> bool:
    """Whether settings decide this place, so that no patch may."""
    kind = dict(change.document).get("kind")
    if kind is not None:
        return kind in OWNED_KINDS
    return any(change.path[: len(path)] == path for path in OWNED)


def _with_patches(sections: Sections, differing: Mapping[str, list[Change]]) -> None:
    """What all nodes have in common is the cluster's, the rest each node's own."""
    common = difference.shared(list(differing.values()))
    if common:
        sections["cluster"]["patches"] = difference.patches(common)
    for name, found in differing.items():
        own = [change for change in found if change not in common]
        if own:
            sections["nodes"][name]["patches"] = difference.patches(own)


def _left(member: Member, lab: Settings, bundle: SecretsBundle) -> Iterator[str]:
    changes = plan.compare(member.config, _rendered(member, lab, bundle))
    yield from (f"{member.name}: {path}, while it runs" for path in changes.live)
    yield from (f"{member.name}: {path}, with a reboot" for path in changes.reboot)


def parted(sections: Sections) -> tuple[Sections, dict[str, str]]:
    """The sections without their secrets, and the secrets by the path under which `homelab secret` stores them."""
    public = copy.deepcopy(sections)
    secrets: dict[str, str] = {}
    for where in _secret_places(sections):
        *above, last = where
        holder: Any = public
        for key in above:
            holder = holder[key]
        secrets[Problem(where, "", "").path] = str(holder.pop(last))
    return public, secrets


def _secret_places(sections: Sections) -> list[Where]:
    found = [problem.where for problem in in_plain(sections)]
    found += [where for where in _texts(sections, ()) if where not in found]
    return found


def _texts(value: Any, where: Where) -> Iterator[Where]:
    """Places in patches whose text holds a private key or a Kubernetes Secret, whatever their key is called."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*where, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, (*where, number))
    elif isinstance(value, str) and "patches" in where[:-1] and isinstance(where[-1], str) and _is_private(value):
        yield where


def _is_private(text: str) -> bool:
    if any(mark in text for mark in _PRIVATE):
        return True
    try:
        return any(mark in base64.b64decode(text, validate=True).decode() for mark in _PRIVATE)
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return False
