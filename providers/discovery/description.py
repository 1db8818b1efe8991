"""A running cluster in the words of the settings. What they can't say is left to `providers.talos.difference`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from itertools import permutations
from typing import Any
from urllib.parse import urlsplit

from providers.discovery.cluster import Member
from providers.errors import UserError
from providers.talos import documents
from providers.talos.schematic import OVERLAYS, Schematic, installer

MODULES = {"turingrk1": "rk1", "rpi_generic": "cm4"}
FACTORY = "https://factory.talos.dev"
_PLAIN_INSTALLER = "ghcr.io/siderolabs/installer"  # Talos' own default up to 1.13
_MOST_EXTENSIONS = 6  # whose orders are all tried; the order is part of an image's name
_TAG = re.compile(r":(v\d+\.\d+\.\d+(?:-(?:alpha|beta|rc)\.\d+)?)")
_EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


@dataclass(frozen=True)
class Described:
    """The cluster's and the nodes' sections of a settings file; boards and slots are nobody's to know from here."""

    cluster: dict[str, Any]
    nodes: dict[str, dict[str, Any]]


def describe(members: Sequence[Member], vip: str = "") -> Described:
    """What the settings can say of a cluster.

    Args:
        members: all nodes.
        vip: the address that its control planes share, where their config has none.

    Raises:
        UserError: nodes run different versions, or something that every cluster here must have is missing.
    """
    leader = next(member for member in members if member.leads)
    recipe = _recipe(members)
    cluster = {
        "name": _at(leader.main, "cluster", "clusterName") or "home",
        "endpoint": _endpoint(leader, vip),
        "talos": _talos(members, leader, recipe),
        "kubernetes": {"version": _one("Kubernetes", {member.name: _kubernetes(member) for member in members})},
        **_pods(leader),
        "network": _network(members, leader),
        **_registries(members),
    }
    return Described(cluster, {member.name: _node(member, recipe, cluster) for member in members})


def _one(what: str, found: Mapping[str, str]) -> str:
    """The one value that all nodes have."""
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    listed = ", ".join(f"{name}: {value}" for name, value in found.items())
    raise UserError(f"the nodes run different versions of {what} ({listed}); finish that upgrade first")


def _recipe(members: Sequence[Member]) -> Schematic | None:
    """The schematic of all nodes, if these settings can make it: overlay and extensions, in the right order."""
    known = {member.schematic for member in members}
    names = members[0].extensions
    if len(known) != 1 or None in known or len(names) > _MOST_EXTENSIONS:
        return None
    for overlay in OVERLAYS:
        for order in permutations(sorted(names)):
            recipe = Schematic(overlay, tuple(f"siderolabs/{name}" for name in order))
            if recipe.id in known:
                return recipe
    return None


def _endpoint(leader: Member, vip: str) -> dict[str, Any]:
    url = urlsplit(str(_at(leader.main, "cluster", "controlPlane", "endpoint") or ""))
    host, port = url.hostname or "", url.port or 443
    known = _vip(leader)
    if vip and known and vip != known:
        raise UserError(f"--vip {vip}: the control planes of this cluster share {known} already")
    shared = known or vip
    if not shared:
        raise UserError(
            f"the control planes of this cluster share no address (its endpoint is {host}); settings need one: give a "
            f"free address with --vip, and the first `up` adds it"
        )
    named = {"dns": host} if host and not _is_address(host) else {}
    return {"vip": shared, **named, **({"port": port} if port != 6443 else {})}


def _vip(leader: Member) -> str:
    """The address that the control planes share, as their config says it.

    Raises:
        UserError: it is in a document of its own, beside which Talos takes no `interfaces`.
    """
    if any(item.get("kind") == "Layer2VIPConfig" for item in documents.load(leader.config)):
        raise UserError(
            f"{leader.name}: its VIP is in a Layer2VIPConfig document, which is not written here yet; move it to "
            f"machine.network.interfaces[].vip of the control planes first"
        )
    return next((str(ip) for item in _interfaces(leader) if (ip := _at(item, "vip", "ip"))), "")


def _interfaces(member: Member) -> list[Mapping[str, Any]]:
    return list(_at(member.main, "machine", "network", "interfaces") or ())


def _talos(members: Sequence[Member], leader: Member, recipe: Schematic | None) -> dict[str, Any]:
    """Version and image. An image that these settings can't make is named whole: else `up` would replace it."""
    version = _one("Talos", {member.name: member.talos for member in members})
    if recipe is None:
        names = [f"siderolabs/{name}" for name in leader.extensions]
        image = _at(leader.main, "machine", "install", "image") or f"{_PLAIN_INSTALLER}:{version}"
        return {"version": version, "extensions": names, "installer": str(image)}
    factory = _factory(leader, recipe, version)
    made = {"version": version, "extensions": list(recipe.extensions)}
    return made | ({"factory": factory} if factory != FACTORY else {})


def _factory(leader: Member, recipe: Schematic, version: str) -> str:
    """The factory whose installer the node's config names; it is also its registry's host."""
    image = str(_at(leader.main, "machine", "install", "image") or "")
    host = image.partition("/")[0]
    if not host or image != installer(f"https://{host}", recipe.id, version):
        return FACTORY
    return f"{'http' if ':' in host else 'https'}://{host}"


def _kubernetes(member: Member) -> str:
    image = str(_at(member.main, "machine", "kubelet", "image") or "")
    found = _TAG.search(image)
    if found is None:
        raise UserError(f"{member.name}: its machine config does not say which kubelet it runs ({image or 'no image'})")
    return found[1]


def _pods(leader: Member) -> dict[str, Any]:
    network = _at(leader.main, "cluster", "network") or {}
    cni = str(_at(network, "cni", "name") or "flannel")
    return {
        "cni": "flannel" if cni == "flannel" else "none",
        "schedule_on_control_planes": bool(_at(leader.main, "cluster", "allowSchedulingOnControlPlanes")),
        **{
            ours: list(network[theirs])
            for ours, theirs in (("pod_subnets", "podSubnets"), ("service_subnets", "serviceSubnets"))
            if network.get(theirs)
        },
    }


def _network(members: Sequence[Member], leader: Member) -> dict[str, Any]:
    network: dict[str, Any] = {}
    if leader.network:
        network["subnet"] = str(IPv4Interface(leader.network).network)
    gateways = {_gateway(member) for member in members}
    if len(gateways) == 1 and (gateway := gateways.pop()):
        network["gateway"] = gateway
    for ours, path in (("nameservers", ("network", "nameservers")), ("time_servers", ("time", "servers"))):
        found = {tuple(_at(member.main, "machine", *path) or ()) for member in members}
        if len(found) == 1 and (servers := found.pop()):
            network[ours] = list(servers)
    return network


def _gateway(member: Member) -> str:
    """The default route of a node with a static address; "" with DHCP."""
    for item in _interfaces(member):
        if any(str(address).partition("/")[0] == member.address for address in item.get("addresses") or ()):
            routes = item.get("routes") or ()
            everything = (route for route in routes if route.get("network") in ("0.0.0.0/0", None, ""))
            return next((str(route.get("gateway", "")) for route in everything), "")
    return ""


def _registries(members: Sequence[Member]) -> dict[str, Any]:
    found = [_at(member.main, "machine", "registries") or {} for member in members]
    if any(item != found[0] for item in found):
        return {}
    mirrors = {host: list(item["endpoints"]) for host, item in (found[0].get("mirrors") or {}).items() if item}
    logins = {
        host: {"username": auth["username"], "password": auth["password"]}
        for host, item in (found[0].get("config") or {}).items()
        if (auth := item.get("auth") or {}).get("username") and auth.get("password")
    }
    said = {key: value for key, value in (("mirrors", mirrors), ("credentials", logins)) if value}
    return {"registries": said} if said else {}


def _node(member: Member, recipe: Schematic | None, cluster: Mapping[str, Any]) -> dict[str, Any]:
    machine = member.main.get("machine") or {}
    module = MODULES[recipe.overlay] if recipe else "rk1"
    optional = {
        "module": module if module != "rk1" else None,
        "install": _install(machine.get("install") or {}),
        "labels": _labels(member, machine, cluster),
        "taints": dict(machine.get("nodeTaints") or {}),
    }
    return {
        "role": "controlplane" if member.leads else "worker",
        "address": member.address,
        "mac": member.mac,
        **{key: value for key, value in optional.items() if value},
    }


def _labels(member: Member, machine: Mapping[str, Any], cluster: Mapping[str, Any]) -> dict[str, str]:
    """The labels, without the one that a control plane without ordinary pods gets anyway."""
    labels = {key: str(value or "") for key, value in (machine.get("nodeLabels") or {}).items()}
    if member.leads and not cluster["schedule_on_control_planes"]:
        labels.pop(_EXCLUDED, None)
    return labels


def _install(install: Mapping[str, Any]) -> dict[str, Any]:
    if install.get("diskSelector"):
        return {"selector": dict(install["diskSelector"])}
    return {"disk": str(install["disk"])} if install.get("disk") else {}


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
