"""An etcd that tenants keep their objects in, as the operator Kamaji wants to meet it.

The operator's own chart makes one with Helm's hooks: jobs that draw certificates. Charts that the engine renders have
no hooks, so this one is of our own objects, and its certificates are cert-manager's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pulumi

from components.cert_manager import API as CERTIFICATES
from components.part import Part
from components.policy import Door, policy
from components.scripts import open_etcd
from components.storage import block_class, nfs_class
from components.versions import IMAGES
from components.workload import Container, Port, checksum, deployment

API = "kamaji.clastix.io/v1alpha1"
NAME = "kamaji-etcd"
AUTHORITY, SERVER, ROOT = f"{NAME}-ca", f"{NAME}-server", f"{NAME}-root"
CLIENTS, PEERS, HEALTH = Port("client", 2379, 2379), Port("peer", 2380, 2380), Port("health", 2381, 2381)
USER = 65532
MOST_MEMBERS = 3
_NODE = "kubernetes.io/hostname"
SIZE = "8Gi"
DATA, KEYS, PROGRAM = "/var/lib/etcd", "/keys", "/program"

Object = dict[str, Any]


def etcd(
    part: Part, namespace: str, within: Sequence[pulumi.Resource], users: Sequence[str] = ()
) -> list[pulumi.Resource]:
    """Make an etcd, and gives what whoever uses it comes after.

    Args:
        part: whose it is.
        namespace: that it runs in.
        within: the namespace, and whatever else it comes after.
        users: namespaces that may reach it beside its own, where there are NetworkPolicies.
    """
    doors = [Door(CLIENTS, of=user) for user in (namespace, *users)]
    policy(part, namespace, NAME, [*doors, Door(PEERS, of=namespace)], within)
    signed = _certificates(part, namespace, within)
    storage = block_class(part.site.lab) or nfs_class(part.site.lab)
    service = part.object("etcd-service", _service(namespace), within)
    members = part.object("etcd", _members(namespace, storage, size(part)), [service, *signed])
    program = part.object("etcd-program", _program(namespace), within)
    return [part.object("etcd-users", _users(namespace), [members, program]), *signed]


def store(part: Part, name: str, namespace: str, behind: Sequence[pulumi.Resource]) -> pulumi.Resource:
    """Tell the operator of an etcd, as the DataStore `name`: a kind without namespaces."""
    return part.object("datastore", manifest(name, namespace, size(part)), behind)


def size(part: Part) -> int:
    """How many members it has: three, where there are nodes for them."""
    return MOST_MEMBERS if len(part.site.lab.enabled_nodes) >= MOST_MEMBERS else 1


def manifest(name: str, namespace: str, members: int) -> Object:
    """The DataStore: where the etcd is, and what opens it. Kamaji signs a tenant's own certificate with its CA."""
    return {
        "apiVersion": API,
        "kind": "DataStore",
        "metadata": {"name": name},
        "spec": {
            "driver": "etcd",
            "endpoints": [f"{host}:{CLIENTS.service}" for host in _hosts(namespace, members)],
            "tlsConfig": {
                "certificateAuthority": _pair(AUTHORITY, namespace),
                "clientCertificate": _pair(ROOT, namespace),
            },
        },
    }


def _pair(secret: str, namespace: str) -> Object:
    """A certificate and its key, by where they are."""
    where = {"name": secret, "namespace": namespace}
    return {
        part: {"secretReference": {**where, "keyPath": key}}
        for part, key in (("certificate", "tls.crt"), ("privateKey", "tls.key"))
    }


def _hosts(namespace: str, members: int) -> list[str]:
    return [f"{NAME}-{number}.{NAME}.{namespace}.svc.cluster.local" for number in range(members)]


def _certificates(part: Part, namespace: str, within: Sequence[pulumi.Resource]) -> list[pulumi.Resource]:
    """A CA of the etcd's own, its members' certificate, and that of its user `root`."""
    self_signed = part.object("etcd-self", _issuer(f"{NAME}-self", namespace, {"selfSigned": {}}), within)
    ca = {"isCA": True, "commonName": AUTHORITY, "duration": "87600h", "renewBefore": "8760h"}
    ca |= {"privateKey": {"algorithm": "RSA", "size": 2048, "rotationPolicy": "Never"}}
    authority = part.object("etcd-ca", _certificate(AUTHORITY, namespace, f"{NAME}-self", ca), [self_signed])
    signer = part.object("etcd-issuer", _issuer(NAME, namespace, {"ca": {"secretName": AUTHORITY}}), [authority])
    names = [*_hosts(namespace, size(part)), f"{NAME}.{namespace}.svc", "localhost"]
    server = {"dnsNames": names, "ipAddresses": ["127.0.0.1"], "usages": ["server auth", "client auth"]}
    root = {"commonName": "root", "usages": ["client auth"]}
    return [
        part.object("etcd-server", _certificate(SERVER, namespace, NAME, server), [signer]),
        part.object("etcd-root", _certificate(ROOT, namespace, NAME, root), [signer]),
    ]


def _issuer(name: str, namespace: str, spec: Object) -> Object:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": CERTIFICATES, "kind": "Issuer", "metadata": metadata, "spec": spec}


def _certificate(name: str, namespace: str, issuer: str, spec: Object) -> Object:
    issued = {"secretName": name, "issuerRef": {"group": "cert-manager.io", "kind": "Issuer", "name": issuer}}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": CERTIFICATES, "kind": "Certificate", "metadata": metadata, "spec": {**issued, **spec}}


def _service(namespace: str) -> Object:
    """Members find each other by name before they are ready: without one another they never are."""
    listed = [{"name": port.name, "port": port.service, "targetPort": port.container} for port in (CLIENTS, PEERS)]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app": NAME},
            "ports": listed,
        },
    }


def _members(namespace: str, storage: str | None, members: int) -> Object:
    made = deployment(
        NAME,
        namespace,
        [_etcd(namespace, members)],
        user=USER,
        volumes=[{"name": "keys", "secret": {"secretName": SERVER, "defaultMode": 0o440}}],
    )
    apart = {"weight": 100, "podAffinityTerm": {"labelSelector": {"matchLabels": {"app": NAME}}, "topologyKey": _NODE}}
    template = made["spec"]["template"]
    template["spec"]["affinity"] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}}
    chosen = {"storageClassName": storage} if storage else {}
    room = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": SIZE}}, **chosen}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": made["metadata"],
        "spec": {
            "replicas": members,
            "serviceName": NAME,
            "podManagementPolicy": "Parallel",
            "selector": made["spec"]["selector"],
            "template": template,
            "volumeClaimTemplates": [
                {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": room}
            ],
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
        },
    }


def _etcd(namespace: str, members: int) -> Container:
    host = f"$(POD_NAME).{NAME}.{namespace}.svc.cluster.local"
    hosts = _hosts(namespace, members)
    cluster = ",".join(f"{NAME}-{number}=https://{name}:{PEERS.service}" for number, name in enumerate(hosts))
    secured = [
        f"--{prefix}{flag}={KEYS}/{file}"
        for prefix in ("", "peer-")
        for flag, file in (("cert-file", "tls.crt"), ("key-file", "tls.key"), ("trusted-ca-file", "ca.crt"))
    ]
    return Container(
        name="etcd",
        image=IMAGES["etcd"],
        requests={"cpu": "100m", "memory": "128Mi"},
        ports=(CLIENTS, PEERS, HEALTH),
        probe=HEALTH.container,
        mounts={DATA: "data", KEYS: "keys"},
        env=[{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        command=("etcd",),
        args=(
            "--name=$(POD_NAME)",
            f"--data-dir={DATA}/data",
            f"--initial-cluster={cluster}",
            f"--initial-cluster-token={namespace}",
            f"--listen-client-urls=https://0.0.0.0:{CLIENTS.container}",
            f"--advertise-client-urls=https://{host}:{CLIENTS.service}",
            f"--listen-peer-urls=https://0.0.0.0:{PEERS.container}",
            f"--initial-advertise-peer-urls=https://{host}:{PEERS.service}",
            f"--listen-metrics-urls=http://0.0.0.0:{HEALTH.container}",
            "--client-cert-auth=true",
            "--peer-client-cert-auth=true",
            "--auto-compaction-mode=periodic",
            "--auto-compaction-retention=5m",
            "--quota-backend-bytes=8589934592",
            *secured,
        ),
    )


def _program(namespace: str) -> Object:
    text = Path(open_etcd.__file__).read_text(encoding="utf-8")
    metadata = {"name": f"{NAME}-program", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"open_etcd.py": text}}


def _users(namespace: str) -> Object:
    """A Job that turns etcd's users on, so that a tenant's certificate opens its own prefix alone."""
    text = Path(open_etcd.__file__).read_text(encoding="utf-8")
    name = f"{NAME}-users-{checksum(text)[:8]}"  # what a Job runs can't be changed
    container = Container(
        name="users",
        image=IMAGES["python"],
        requests={"cpu": "10m", "memory": "32Mi"},
        mounts={KEYS: "keys", PROGRAM: "program"},
        command=("python3", f"{PROGRAM}/open_etcd.py"),
        args=(f"https://{NAME}.{namespace}.svc:{CLIENTS.service}", KEYS),
    )
    volumes = [
        {"name": "keys", "secret": {"secretName": ROOT, "defaultMode": 0o440}},
        {"name": "program", "configMap": {"name": f"{NAME}-program"}},
    ]
    pod = deployment(name, namespace, [container], user=USER, volumes=volumes)["spec"]["template"]
    pod["spec"]["restartPolicy"] = "OnFailure"
    metadata = {"name": name, "namespace": namespace}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"backoffLimit": 10, "activeDeadlineSeconds": 600, "template": pod},
    }
