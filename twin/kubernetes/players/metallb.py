"""MetalLB: its controller gives addresses to Services, its speakers say which node announces them (facts 2).

The controller gives an address out of a pool that nobody announces, too: it leads nowhere then, and no
ServiceL2Status tells of it. Pools' `serviceAllocation` is not played.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator

from twin.kubernetes.api import Object
from twin.kubernetes.players import addresses as ip
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.world import World, at, key, labelled

_EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


async def play(world: World) -> None:
    """One look at all Services of type LoadBalancer."""
    controller = k.deployment(world, "metallb-controller")
    if controller is not None:
        await _give(world, controller)
    speaker = k.daemon_set(world, "metallb-speaker")
    if speaker is not None:
        await _announce(world, speaker)


async def _give(world: World, controller: Object) -> None:
    pools = [pool for pool, _ in _pools(world, controller)]
    services = list(_ours(world, controller))
    uses: dict[ip.Address, list[Object]] = defaultdict(list)
    for service in services:
        for address in ip.current(service):
            uses[address].append(service)
    for service in services:
        await _converge(world, service, pools, uses)
    for service in world.all(k.SERVICE):
        if service["spec"].get("type") != "LoadBalancer" and _pool_name(service):
            await _release(world, service)


async def _converge(world: World, service: Object, pools: list[ip.Pool], uses: dict[ip.Address, list[Object]]) -> None:
    before = ip.current(service)
    try:
        given, pool = ip.assign(service, pools, uses)
    except ip.Refused as refused:
        message = f'Failed to allocate IP for "{"/".join(key(service))}": {refused}'
        if before:
            await _release(world, service)
        await world.say(k.SERVICE, service, "metallb-controller", "AllocationFailed", message)
        return
    finally:
        for address in before:
            uses[address] = [other for other in uses[address] if key(other) != key(service)]
    for address in given:
        uses[address].append(service)
    if _pool_name(service) != pool.name:
        service = await world.patch(k.SERVICE, service, {"metadata": {"annotations": {ip.FROM_POOL: pool.name}}})
    if before != given:
        ingress = [{"ip": str(address), "ipMode": "VIP"} for address in given]
        await world.status(k.SERVICE, service, {"loadBalancer": {"ingress": ingress}})
        message = f"Assigned IP {[str(address) for address in given]}"
        await world.say(k.SERVICE, service, "metallb-controller", "IPAllocated", message, bad=False)


async def _release(world: World, service: Object) -> None:
    if ip.current(service):
        service = await world.status(k.SERVICE, service, {"loadBalancer": {"ingress": None}})
    await world.patch(k.SERVICE, service, {"metadata": {"annotations": {ip.FROM_POOL: None}}})


async def _announce(world: World, speaker: Object) -> None:
    namespace = speaker["metadata"]["namespace"]
    told = {_about(status): status for status in world.all(k.SERVICE_L2_STATUS)}
    for service in _ours(world, speaker):
        node = _announcer(world, speaker, service)
        status = told.pop(key(service), None)
        if status is not None and at(status, "status", "node") != node:
            await world.delete(k.SERVICE_L2_STATUS, status)
            status = None
        if node and status is None:
            await _tell(world, namespace, service, node)
    for orphan in told.values():
        await world.delete(k.SERVICE_L2_STATUS, orphan)


async def _tell(world: World, namespace: str, service: Object, node: str) -> None:
    where, name = key(service)
    labels = {"metallb.io/node": node, "metallb.io/service-name": name, "metallb.io/service-namespace": where}
    about = {"generateName": "l2-", "namespace": namespace, "labels": labels}
    made = await world.create(k.SERVICE_L2_STATUS, {"metadata": about, "spec": {}})
    interfaces = [{"name": next(machine.spec.link for machine in world.lab.machines.values())}]
    status = {"node": node, "serviceName": name, "serviceNamespace": where, "interfaces": interfaces}
    await world.status(k.SERVICE_L2_STATUS, made, status)


def _announcer(world: World, speaker: Object, service: Object) -> str:
    """The node that answers for a Service's address: first of those that may, in an order made from the address."""
    given = ip.current(service)
    pools = [found for pool, found in _pools(world, speaker) if pool.name == _pool_name(service)]
    if not given or not pools:
        return ""
    covering = [found for found in world.all(k.L2_ADVERTISEMENT) if _covers(found, pools[0], service)]
    backed = _endpoints(world, service)
    local = service["spec"].get("externalTrafficPolicy") == "Local"
    ignore = "--ignore-exclude-lb" in {word.removesuffix("=true") for word in k.arguments(speaker)}
    names = [
        node["metadata"]["name"]
        for node in world.all(k.NODE)
        if k.ready(node)
        and (ignore or _EXCLUDED not in (at(node, "metadata", "labels") or {}))
        and any(_selects(found, node) for found in covering)
        and (node["metadata"]["name"] in backed if local else backed)
    ]
    return min(names, key=lambda name: hashlib.sha256(f"{name}#{given[0]}".encode()).digest(), default="")


def _covers(advertisement: Object, pool: Object, service: Object) -> bool:
    spec = advertisement.get("spec") or {}
    names, selectors = spec.get("ipAddressPools") or [], spec.get("ipAddressPoolSelectors") or []
    named = pool["metadata"]["name"] in names or any(labelled(pool, selector) for selector in selectors)
    services = spec.get("serviceSelectors") or []
    wanted = not services or any(labelled(service, selector) for selector in services)
    return wanted and (named or not (names or selectors))


def _selects(advertisement: Object, node: Object) -> bool:
    selectors = (advertisement.get("spec") or {}).get("nodeSelectors") or []
    return not selectors or any(labelled(node, selector) for selector in selectors)


def _endpoints(world: World, service: Object) -> set[str]:
    """The nodes with a ready pod behind a Service."""
    namespace, name = key(service)
    slices = [
        found
        for found in world.all(k.ENDPOINT_SLICE)
        if found["metadata"]["namespace"] == namespace
        and (at(found, "metadata", "labels") or {}).get("kubernetes.io/service-name") == name
    ]
    points = [point for found in slices for point in found.get("endpoints") or []]
    return {str(point.get("nodeName")) for point in points if at(point, "conditions", "ready") is not False}


def _ours(world: World, program: Object) -> Iterator[Object]:
    """The Services of type LoadBalancer with the class that MetalLB was started for."""
    flags = [word.removeprefix("--lb-class=") for word in k.arguments(program) if word.startswith("--lb-class=")]
    for service in world.all(k.SERVICE):
        right = (service["spec"].get("loadBalancerClass") or "") == (flags[0] if flags else "")
        if service["spec"].get("type") == "LoadBalancer" and right and not at(service, "metadata", "deletionTimestamp"):
            yield service


def _pools(world: World, program: Object) -> Iterator[tuple[ip.Pool, Object]]:
    for found in world.all(k.ADDRESS_POOL):
        pool = ip.pool(found)
        if pool is not None and found["metadata"]["namespace"] == program["metadata"]["namespace"]:
            yield pool, found


def _pool_name(service: Object) -> str | None:
    found = at(service, "metadata", "annotations") or {}
    name: str | None = found.get(ip.FROM_POOL)
    return name


def _about(status: Object) -> tuple[str, str]:
    labels = at(status, "metadata", "labels") or {}
    return labels.get("metallb.io/service-namespace", ""), labels.get("metallb.io/service-name", "")
