"""MetalLB's choice of addresses: which a Service asks for, which pools hold them, and who may share one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from twin.kubernetes.api import Object
from twin.kubernetes.players.world import at

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
FROM_POOL = "metallb.io/ip-allocated-from-pool"
_PREFIXES = ("metallb.io", "metallb.universe.tf")  # the older one is still read


class Refused(Exception):
    """A Service gets no address; the message is the Event's."""


@dataclass(frozen=True)
class Pool:
    """An IPAddressPool: ranges with both ends in them."""

    name: str
    ranges: tuple[tuple[Address, Address], ...]
    automatic: bool
    avoid_buggy: bool
    labels: Object

    def holds(self, address: Address) -> bool:
        """Whether an address may be given out of it."""
        inside = any(
            first.version == address.version and int(first) <= int(address) <= int(last) for first, last in self.ranges
        )
        return inside and not (self.avoid_buggy and _buggy(address))

    def addresses(self, version: int) -> Iterator[Address]:
        """Every address of an IP version, in order."""
        for first, last in self.ranges:
            if first.version == version:
                every = (type(first)(number) for number in range(int(first), int(last) + 1))
                yield from (address for address in every if not (self.avoid_buggy and _buggy(address)))


Uses = Mapping[Address, Sequence[Object]]  # the Services that have an address now


def pool(found: Object) -> Pool | None:
    """The pool of an IPAddressPool, None if MetalLB's webhook wouldn't have let it through."""
    spec = found.get("spec") or {}
    try:
        ranges = tuple(_range(str(text)) for text in spec.get("addresses", []))
    except ValueError:
        return None
    labels = at(found, "metadata", "labels") or {}
    return Pool(
        found["metadata"]["name"], ranges, spec.get("autoAssign", True), spec.get("avoidBuggyIPs", False), labels
    )


def current(service: Object) -> list[Address]:
    """The addresses that a Service's status tells."""
    ingress = at(service, "status", "loadBalancer", "ingress") or []
    return [ipaddress.ip_address(entry["ip"]) for entry in ingress if entry.get("ip")]


def assign(service: Object, pools: Sequence[Pool], uses: Uses) -> tuple[list[Address], Pool]:
    """The addresses for a Service and their pool; those that it has stay when they may. Raises Refused."""
    asked, now = _asked(service), current(service)
    allowed = _pools(service, pools)
    if now and (not asked or set(asked) == set(now)):
        holding = [found for found in allowed if all(found.holds(address) for address in now)]
        if holding and all(_free(service, address, uses) for address in now):
            return now, holding[0]
    if asked:
        return asked, _pool_of_all(service, asked, allowed, uses)
    return _automatic(service, allowed, uses)


def annotation(service: Object, name: str) -> str:
    """A Service's annotation for MetalLB, under either prefix."""
    annotations = at(service, "metadata", "annotations") or {}
    return next((str(annotations[f"{p}/{name}"]) for p in _PREFIXES if annotations.get(f"{p}/{name}")), "")


def _asked(service: Object) -> list[Address]:
    listed, single = annotation(service, "loadBalancerIPs"), str(service["spec"].get("loadBalancerIP") or "")
    if listed and single:
        raise Refused("service can not have both metallb.io/loadBalancerIPs and svc.Spec.LoadBalancerIP")
    if not listed and not single:
        return []
    try:
        asked = [ipaddress.ip_address(part.strip()) for part in (listed or single).split(",")]
    except ValueError:
        raise Refused(f"invalid spec.loadBalancerIP or annotation {listed or single!r}") from None
    if sorted(a.version for a in asked) != sorted(_versions(service)):
        text = ",".join(map(str, asked))
        raise Refused(f"requested loadBalancer IP(s) {text!r} does not match the ipFamily of the service")
    return asked


def _versions(service: Object) -> list[int]:
    return [6 if family == "IPv6" else 4 for family in service["spec"].get("ipFamilies") or ["IPv4"]]


def _pools(service: Object, pools: Sequence[Pool]) -> list[Pool]:
    name = annotation(service, "address-pool")
    if not name:
        return list(pools)
    found = [found for found in pools if found.name == name]
    if not found:
        raise Refused(f"unknown pool {name!r}")
    return found


def _pool_of_all(service: Object, asked: list[Address], pools: list[Pool], uses: Uses) -> Pool:
    text = str([str(address) for address in asked])
    holding = [found for found in pools if all(found.holds(address) for address in asked)]
    if not holding:
        raise Refused(f"{text} is not allowed in config")
    for address in asked:
        if not _free(service, address, uses):
            raise Refused(f"can't change sharing key for {_key(service)!r}, address {address} also in use")
    return holding[0]


def _automatic(service: Object, pools: list[Pool], uses: Uses) -> tuple[list[Address], Pool]:
    named = annotation(service, "address-pool")
    for found in pools:
        if found.automatic or named:
            picked = [
                next((a for a in found.addresses(version) if _free(service, a, uses)), None)
                for version in _versions(service)
            ]
            if all(picked):
                return [address for address in picked if address is not None], found
    raise Refused("no available IPs")


def _free(service: Object, address: Address, uses: Uses) -> bool:
    others = [other for other in uses.get(address, ()) if other["metadata"]["uid"] != service["metadata"]["uid"]]
    return all(_share(service, other) for other in others)


def _share(one: Object, other: Object) -> bool:
    """Two Services may have one address: same key, other ports, and the same pods if one keeps traffic local."""
    same_key = annotation(one, "allow-shared-ip") == annotation(other, "allow-shared-ip") != ""
    local = any(service["spec"].get("externalTrafficPolicy") == "Local" for service in (one, other))
    same_pods = one["spec"].get("selector") == other["spec"].get("selector")
    return same_key and not (_ports(one) & _ports(other)) and (same_pods or not local)


def _ports(service: Object) -> set[tuple[str, int]]:
    return {(port.get("protocol", "TCP"), port["port"]) for port in service["spec"].get("ports", [])}


def _key(service: Object) -> str:
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def _range(text: str) -> tuple[Address, Address]:
    if "-" in text:
        first, last = (ipaddress.ip_address(part.strip()) for part in text.split("-"))
        return first, last
    network = ipaddress.ip_network(text.strip(), strict=False)
    return network[0], network[-1]


def _buggy(address: Address) -> bool:
    return address.version == 4 and int(address) & 255 in (0, 255)
