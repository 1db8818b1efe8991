"""Traefik tells the address of its own Service in the Ingresses that it serves (`publishedService`)."""

from __future__ import annotations

from collections.abc import Iterator

from twin.kubernetes.api import Object
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.world import World, at

_FLAG = "--providers.kubernetesingress.ingressendpoint.publishedservice="
_CONTROLLER = "traefik.io/ingress-controller"


async def play(world: World) -> None:
    """Copy the address to every Ingress of Traefik's class."""
    traefik = k.deployment(world, "traefik") or k.daemon_set(world, "traefik")
    published = [word[len(_FLAG) :] for word in k.arguments(traefik or {}) if word.lower().startswith(_FLAG)]
    if not published:
        return
    namespace, _, name = published[0].partition("/")
    service = world.get(k.SERVICE, name, namespace)
    told = [
        {field: entry[field] for field in ("ip", "hostname") if field in entry}
        for entry in at(service, "status", "loadBalancer", "ingress") or []
    ]
    for ingress in _served(world):
        before = at(ingress, "status", "loadBalancer", "ingress") or []
        if before != told:
            await world.status(k.INGRESS, ingress, {"loadBalancer": {"ingress": told or None}})


def _served(world: World) -> Iterator[Object]:
    classes = [found for found in world.all(k.INGRESS_CLASS) if at(found, "spec", "controller") == _CONTROLLER]
    names = {found["metadata"]["name"] for found in classes}
    for ingress in world.all(k.INGRESS):
        if ingress["spec"].get("ingressClassName") in names:
            yield ingress
