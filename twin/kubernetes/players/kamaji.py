"""Kamaji: a TenantControlPlane becomes a Service, Secrets and pods, with real servers behind these (facts 10)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from twin.kubernetes.api import ApiError, Object
from twin.kubernetes.kubeconfig import kubeconfig
from twin.kubernetes.players import addresses as ip
from twin.kubernetes.players import kinds as k
from twin.kubernetes.players.kamaji_join import prepare
from twin.kubernetes.players.kamaji_servers import Etcd, Keys, Plane, Servers, Store
from twin.kubernetes.players.pki import Wish, b64
from twin.kubernetes.players.pki import issue as made
from twin.kubernetes.players.webhooks import decoded
from twin.kubernetes.players.world import Kind, World, at, key, labelled
from twin.talos.pki import Pair, issue
from twin.talos.registry import lan

if TYPE_CHECKING:
    from twin.talos.os import Os

_GROUP = "/apis/kamaji.clastix.io/v1alpha1"
TENANT = Kind(_GROUP, "tenantcontrolplanes", "TenantControlPlane")
STORE = Kind(_GROUP, "datastores", "DataStore")
_FINALIZER = "finalizer.kamaji.clastix.io/datastore"
_LABEL = "kamaji.clastix.io/name"
_AGE = timedelta(days=3650)
_LOOK_S = 0.5
_NAMESPACE = Kind("/api/v1", "namespaces", "Namespace")


@dataclass
class Running:
    """The servers that run for a cluster, by the uid of the object that they are for."""

    stores: dict[str, Etcd] = field(default_factory=dict)
    tenants: dict[str, Servers] = field(default_factory=dict)
    world: World | None = None  # who looks after them now

    def ended(self) -> None:
        """Some of them have ended, with their node perhaps."""
        if self.world is not None:
            self.world.look()


def running(world: World) -> Running:
    """The one of a cluster; the world is a new one whenever another API server is asked."""
    every: dict[str, Running] = world.lab.registry.setdefault("tenants", {})
    cluster = world.get(_NAMESPACE, "kube-system")
    found = every.setdefault(cluster["metadata"]["uid"] if cluster else "", Running())
    found.world = world
    return found


async def play(world: World) -> None:
    """One look at all DataStores, then at all tenants."""
    operates = k.deployment(world, "kamaji") is not None
    if not operates and "tenants" not in world.lab.registry:
        return
    stores, tenants = world.all(STORE), world.all(TENANT)
    for store in stores:
        _keep_store(world, store)
    for tenant in tenants if operates else ():
        if at(tenant, "metadata", "deletionTimestamp"):
            await _remove(world, tenant)
        else:
            await _reconcile(world, tenant)
    _forget(world, stores, tenants)


def _forget(world: World, stores: list[Object], tenants: list[Object]) -> None:
    """End what belongs to nothing any more."""
    now = running(world)
    for uid in set(now.tenants) - {found["metadata"]["uid"] for found in tenants}:
        now.tenants.pop(uid).held.end()
    for uid in set(now.stores) - {found["metadata"]["uid"] for found in stores}:
        now.stores.pop(uid).drop()


# A DataStore: its etcd runs where the pods are that its endpoints name.


def _keep_store(world: World, store: Object) -> None:
    now, uid = running(world), store["metadata"]["uid"]
    stores = now.stores
    pods = list(_members(world, store))
    known = stores.get(uid)
    if known is not None and (not known.held.alive or known.held.system not in pods):
        stores.pop(uid).held.end()
    ca = _pair_at(world, at(store, "spec", "tlsConfig", "certificateAuthority"))
    if uid not in stores and pods and ca is not None:
        stores[uid] = Etcd(Store(world.lab, uid, ca), pods[0], now.ended)
    elif uid not in stores:
        world.wake(_LOOK_S)


def _members(world: World, store: Object) -> Iterator[Os]:
    """The nodes that the etcd's ready pods are on: an endpoint is POD.SERVICE.NAMESPACE.svc..."""
    for endpoint in at(store, "spec", "endpoints") or []:
        pod, _, namespace = endpoint.split(".")[:3]
        found = world.get(k.POD, pod, namespace)
        system = _system(world, found) if found is not None else None
        if system is not None:
            yield system


def _pair_at(world: World, where: Object | None) -> Pair | None:
    parts = [_secret_at(world, at(where, part, "secretReference")) for part in ("certificate", "privateKey")]
    return Pair(*parts) if all(parts) else None


def _secret_at(world: World, reference: Object | None) -> bytes:
    if not reference:
        return b""
    return decoded(world.get(k.SECRET, reference["name"], reference["namespace"]), reference["keyPath"])


# A tenant.


async def _reconcile(world: World, tenant: Object) -> None:
    if _FINALIZER not in (tenant["metadata"].get("finalizers") or []):
        finalizers = [*(tenant["metadata"].get("finalizers") or []), _FINALIZER]
        tenant = await world.patch(TENANT, tenant, {"metadata": {"finalizers": finalizers}})
    keys = await _keys(world, tenant)
    await _admin(world, tenant, keys)
    service = await _service(world, tenant)
    await _deployment(world, tenant)
    state = await _serve(world, tenant, keys, service)
    if state != "Ready":
        world.wake(_LOOK_S)  # a node that is back within its grace time changes no object
    await _tell(world, tenant, state)


async def _serve(world: World, tenant: Object, keys: Keys, service: Object) -> str:
    """Have its servers run as they should. Says how far they are, in the operator's words."""
    now, uid = running(world), tenant["metadata"]["uid"]
    tenants = now.tenants
    known = tenants.get(uid)
    wanted, store, nodes = _wanted(world, tenant, service), _store(world, tenant), list(_nodes(world, tenant))
    fits = wanted is not None and known is not None and known.plane == wanted and known.held.alive
    if known is not None and not (fits and known.held.system in nodes):
        tenants.pop(uid).held.end()
    if wanted is None:
        return "NotReady"
    if store is None or not nodes:
        return "Provisioning"
    if uid not in tenants:
        tenants[uid] = Servers(wanted, keys, store.store, nodes[0], now.ended)
    return "Ready" if await _answers(tenants[uid]) else _waiting(tenant, wanted)


def _waiting(tenant: Object, wanted: Plane) -> str:
    before = at(tenant, "status", "kubernetesResources", "version", "version")
    return "Upgrading" if before not in (None, wanted.version) else "Provisioning"


async def _answers(servers: Servers) -> bool:
    async with servers.admin() as api:
        if not await api.ready():
            return False
        if not servers.prepared:
            with contextlib.suppress(ApiError):
                await prepare(api, servers.plane, f"https://{servers.plane.address}:{servers.plane.port}")
                servers.prepared = True
        return servers.prepared


def _wanted(world: World, tenant: Object, service: Object) -> Plane | None:
    """What its servers shall be; None while its Service has no address, or another one than was said."""
    spec, network = tenant["spec"], at(tenant, "spec", "networkProfile") or {}
    given = [str(address) for address in ip.current(service)]
    address = str(network.get("address") or (given[0] if given else ""))
    store = _store(world, tenant)
    if not address or given != [address]:
        return None
    services = network.get("serviceCidr") or "10.96.0.0/16"
    return Plane(
        name=tenant["metadata"]["name"],
        address=address,
        port=int(network.get("port") or 6443),
        version=spec["kubernetes"]["version"],
        names=(*_names(tenant, services), address, *network.get("certSANs", ())),
        pods=network.get("podCidr") or "10.244.0.0/16",
        services=services,
        etcd=store.url if store is not None else "",
        prefix=f"/{_schema(tenant)}",
        user=spec.get("dataStoreUsername") or _schema(tenant),
    )


def _names(tenant: Object, services: str) -> list[str]:
    namespace, name = key(tenant)
    inside = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    return [*inside, "localhost", f"{name}.{namespace}.svc", str(ipaddress.ip_network(services)[1]), "127.0.0.1"]


def _schema(tenant: Object) -> str:
    namespace, name = key(tenant)
    return str(tenant["spec"].get("dataStoreSchema") or f"{namespace}_{name}".replace("-", "_"))


def _store(world: World, tenant: Object) -> Etcd | None:
    found = world.get(STORE, tenant["spec"].get("dataStore") or "default")
    store = running(world).stores.get(found["metadata"]["uid"]) if found is not None else None
    return store if store is not None and store.held.alive else None


def _nodes(world: World, tenant: Object) -> Iterator[Os]:
    """The nodes that its ready pods are on."""
    namespace, name = key(tenant)
    for pod in world.all(k.POD):
        if key(pod)[0] == namespace and labelled(pod, {_LABEL: name}):
            system = _system(world, pod)
            if system is not None:
                yield system


def _system(world: World, pod: Object) -> Os | None:
    """The booted system under a pod that is ready."""
    if not k.condition(pod, "Ready") or at(pod, "metadata", "deletionTimestamp"):
        return None
    systems = lan(world.lab).systems.values()
    return next((s for s in systems if s.config is not None and s.hostname == at(pod, "spec", "nodeName")), None)


async def _remove(world: World, tenant: Object) -> None:
    """End its servers, forget its keys in the etcd, and let it go; what it owns goes with it."""
    now, uid = running(world), tenant["metadata"]["uid"]
    if uid in now.tenants:
        now.tenants.pop(uid).held.end()
    store = _store(world, tenant)
    named = world.get(STORE, tenant["spec"].get("dataStore") or "default")
    if named is not None and (store is None or not await store.forget(f"/{_schema(tenant)}/")):
        world.wake(_LOOK_S)
        return
    left = [one for one in tenant["metadata"].get("finalizers") or [] if one != _FINALIZER]
    if left != tenant["metadata"].get("finalizers"):
        await world.patch(TENANT, tenant, {"metadata": {"finalizers": left}})


# What stands in the home cluster of a tenant.


async def _keys(world: World, tenant: Object) -> Keys:
    name = tenant["metadata"]["name"]
    ca = await _kept(world, tenant, f"{name}-ca", "ca", _authority("kubernetes"))
    proxies = f"{name}-front-proxy-ca-certificate"
    front = await _kept(world, tenant, proxies, "front-proxy-ca", _authority("front-proxy-ca"))
    accounts = await _kept(world, tenant, f"{name}-sa-certificate", "sa", Wish("sa", algorithm="RSA", valid=_AGE))
    return Keys(ca, front, accounts.key)


def _authority(name: str) -> Wish:
    return Wish(name, authority=True, algorithm="ECDSA", valid=_AGE)


async def _kept(world: World, tenant: Object, secret: str, file: str, wish: Wish) -> Pair:
    """A pair that is in a Secret of the tenant's, made when it is not."""
    found = world.get(k.SECRET, secret, key(tenant)[0])
    if found is None:
        pair = await asyncio.to_thread(made, wish)
        data = {f"{file}.crt": b64(pair.crt), f"{file}.key": b64(pair.key)}
        found = await world.create(k.SECRET, {"metadata": _about(tenant, secret), "data": data})
    return Pair(decoded(found, f"{file}.crt"), decoded(found, f"{file}.key"))


async def _admin(world: World, tenant: Object, keys: Keys) -> None:
    """The administrator's kubeconfig, for the address that was said."""
    namespace, name = key(tenant)
    secret = f"{name}-admin-kubeconfig"
    network = at(tenant, "spec", "networkProfile") or {}
    if world.get(k.SECRET, secret, namespace) is None and network.get("address"):
        leaf = issue(keys.ca, "kubernetes-admin", ["system:masters"], client=True)
        server = f"https://{network['address']}:{network.get('port') or 6443}"
        text = b64(kubeconfig(server, keys.ca.crt, leaf, name))
        data = {"admin.conf": text, "super-admin.conf": text}
        await world.create(k.SECRET, {"metadata": _about(tenant, secret), "data": data})


async def _service(world: World, tenant: Object) -> Object:
    namespace, name = key(tenant)
    wanted = at(tenant, "spec", "controlPlane", "service") or {}
    spec = {
        "type": wanted["serviceType"],
        "selector": {_LABEL: name},
        "ports": [{"name": listed, "port": port, "targetPort": port} for listed, port in _ports(tenant)],
    }
    annotations = at(wanted, "additionalMetadata", "annotations") or {}
    found = world.get(k.SERVICE, name, namespace)
    if found is None:
        about = {**_about(tenant, name), "annotations": annotations}
        return await world.create(k.SERVICE, {"metadata": about, "spec": spec})
    has, now = at(found, "metadata", "annotations") or {}, [port["port"] for port in found["spec"]["ports"]]
    if any(has.get(word) != text for word, text in annotations.items()) or now != [p for _, p in _ports(tenant)]:
        return await world.patch(k.SERVICE, found, {"metadata": {"annotations": annotations}, "spec": spec})
    return found


def _ports(tenant: Object) -> list[tuple[str, int]]:
    spec = tenant["spec"]
    konnectivity = at(spec, "addons", "konnectivity", "server", "port")
    api = ("kube-apiserver", int(at(spec, "networkProfile", "port") or 6443))
    return [api, *([("konnectivity-server", int(konnectivity))] if konnectivity else [])]


async def _deployment(world: World, tenant: Object) -> None:
    namespace, name = key(tenant)
    version, asked = at(tenant, "spec", "kubernetes", "version"), at(tenant, "spec", "controlPlane", "deployment") or {}
    replicas = 2 if asked.get("replicas") is None else int(asked["replicas"])
    found = world.get(k.DEPLOYMENT, name, namespace)
    template = {"metadata": {"labels": {_LABEL: name}}, "spec": _pod(version, asked.get("resources") or {})}
    if found is None:
        spec = {"replicas": replicas, "selector": {"matchLabels": {_LABEL: name}}, "template": template}
        await world.create(k.DEPLOYMENT, {"metadata": _about(tenant, name), "spec": spec})
        return
    runs = [box["image"] for box in found["spec"]["template"]["spec"]["containers"]]
    if runs != [box["image"] for box in template["spec"]["containers"]] or found["spec"]["replicas"] != replicas:
        await world.patch(k.DEPLOYMENT, found, {"spec": {"replicas": replicas, "template": template}})


def _pod(version: str, resources: Object) -> Object:
    asked = {"apiserver": "apiServer", "controller-manager": "controllerManager", "scheduler": "scheduler"}
    boxes = [
        {
            "name": f"kube-{name}",
            "image": f"registry.k8s.io/kube-{name}:{version}",
            "resources": resources.get(said) or {},
            "securityContext": {"runAsNonRoot": True, "runAsUser": 65532},
            "readinessProbe": {"tcpSocket": {"port": 6443}},
        }
        for name, said in asked.items()
    ]
    return {"automountServiceAccountToken": False, "containers": boxes}


async def _tell(world: World, tenant: Object, state: str) -> None:
    spec, before = tenant["spec"], tenant.get("status") or {}
    version = at(before, "kubernetesResources", "version", "version") if state != "Ready" else None
    told = {"status": state, "version": version or spec["kubernetes"]["version"]}
    network = at(spec, "networkProfile") or {}
    endpoint = f"{network.get('address')}:{network.get('port') or 6443}"
    storage = {"dataStoreName": spec.get("dataStore") or "default", "driver": "etcd"}
    if before.get("controlPlaneEndpoint") == endpoint and at(before, "kubernetesResources", "version") == told:
        return
    resources = {"version": told}
    status = {"kubernetesResources": resources, "controlPlaneEndpoint": endpoint, "storage": storage}
    await world.status(TENANT, tenant, status)


def _about(tenant: Object, name: str) -> Object:
    meta = tenant["metadata"]
    owner = {"apiVersion": TENANT.version, "kind": TENANT.name, "name": meta["name"], "uid": meta["uid"]}
    return {
        "name": name,
        "namespace": meta["namespace"],
        "labels": {_LABEL: meta["name"]},
        "ownerReferences": [{**owner, "controller": True}],
    }
