"""What each part of the platform, and each application, needs of the others and of the nodes."""

from collections.abc import Iterator

from .applications import Application
from .cni import Role
from .draft import Draft
from .problems import Problem, Where, closest

_PARTS: Where = ("platform",)
_SERVED: tuple[str, ...] = ("traefik", "dns")
_IN_IMAGE: Where = ("cluster", "talos", "extensions")
_EXTENSIONS = ("siderolabs/iscsi-tools", "siderolabs/util-linux-tools")
_HOMELESS = ("has no place for its data", "turn the part nfs on, or longhorn")
_WAYS = ("ntfy", "telegram", "webhook", "mail")
_BESIDE_TORRENT = ("enabled", "torrent", "host")


def needs(draft: Draft) -> Iterator[Problem]:
    """Who wants an address needs MetalLB; who has a certificate of the home CA, cert-manager."""
    on = draft.platform.on
    asking = [name for name in _SERVED if name in on]
    asking += [name for name in draft.platform.applications if name in on and _wants_address(name, draft)]
    for name in asking if "metallb" not in on else ():
        fix = "add `metallb: {}` and pools under homelab:platform"
        yield Problem(_place(name), "needs an address, and the part metallb is off", fix)
    traefik = draft.platform.known.traefik
    if "traefik" in on and traefik is not None and traefik.certificate.own is None and "cert-manager" not in on:
        fix = "add `cert_manager: {}`, or a certificate of your own"
        yield Problem((*_PARTS, "traefik", "certificate"), "is of the home CA, which the part cert_manager makes", fix)


def _wants_address(name: str, draft: Draft) -> bool:
    application = draft.platform.known.applications.get(name)
    return name in draft.platform.addresses or (application is not None and application.torrent is not None)


def _place(name: str) -> Where:
    return (*_PARTS, name) if name in _SERVED else (*_PARTS, "applications", name)


def longhorn(draft: Draft) -> Iterator[Problem]:
    """Every node has what Longhorn mounts with, and every replica a node of its own."""
    if "longhorn" not in draft.platform.on:
        return
    missing = [name for name in _EXTENSIONS if name not in draft.extensions]
    if missing and None not in draft.extensions:
        names = " and ".join(missing)
        yield Problem(_IN_IMAGE, f"lacks {names}, which Longhorn needs on every node", f"add {names}")
    settings, places = draft.platform.known.longhorn, _schedulable(draft)
    if settings is not None and settings.replicas is not None and settings.replicas > places > 0:
        where = (*_PARTS, "longhorn", "replicas")
        yield Problem(
            where, f"{settings.replicas} replicas need as many nodes, and pods may run on {places}", f"write {places}"
        )


def _schedulable(draft: Draft) -> int:
    """How many enabled nodes run ordinary pods; a node without a good role counts."""
    return sum(not node.disabled and (draft.schedules or node.role is not Role.CONTROLPLANE) for node in draft.nodes)


def nfs(draft: Draft) -> Iterator[Problem]:
    """The owner's server or one on a node that is there."""
    settings = draft.platform.known.nfs
    if settings is None:
        return
    where: Where = (*_PARTS, "nfs")
    if (settings.server is None) == (settings.node is None):
        fault = "has neither server nor node" if settings.server is None else "has both server and node"
        yield Problem(where, fault, "write one of them: your own server, or the node that one shall run on")
    if settings.node is not None:
        yield from _nfs_node((*where, "node"), settings.node, draft)
        if not settings.path.startswith("/var/"):
            yield Problem(
                (*where, "path"), f"{settings.path} is not under /var", "Talos keeps data there, as in /var/mnt/nfs"
            )
    if settings.storage_class.startswith("longhorn") and "longhorn" in draft.platform.on:
        yield Problem((*where, "storage_class"), f"{settings.storage_class} is Longhorn's own name", "take nfs")


def _nfs_node(where: Where, name: str, draft: Draft) -> Iterator[Problem]:
    nodes = {node.name: node for node in draft.nodes}
    if name not in nodes:
        meant = closest(name, nodes)
        yield Problem(where, f"'{name}' is not a node", f"did you mean {meant}?" if meant else "take one of nodes")
    elif nodes[name].disabled:
        yield Problem(where, f"{name} is disabled", "take a node that is in the cluster")


def classes(draft: Draft) -> Iterator[Problem]:
    """One default StorageClass at most."""
    longhorn, nfs = draft.platform.known.longhorn, draft.platform.known.nfs
    both = {"longhorn", "nfs"} <= draft.platform.on and longhorn is not None and nfs is not None
    if both and longhorn is not None and nfs is not None and longhorn.default_class and nfs.default_class:
        fix = "make it false, or longhorn's"
        yield Problem((*_PARTS, "nfs", "default_class"), "is true, and longhorn.default_class is too", fix)


def storage(draft: Draft) -> Iterator[Problem]:
    """AdGuard Home keeps its data on NFS, or on Longhorn."""
    if "dns" in draft.platform.on and _is_homeless(draft):
        yield Problem((*_PARTS, "dns"), *_HOMELESS)


def _is_homeless(draft: Draft) -> bool:
    return not {"nfs", "longhorn"} & draft.platform.on


def zone(draft: Draft) -> Iterator[Problem]:
    """A zone is answered with the address of a service that is on."""
    dns = draft.platform.known.dns
    if dns is None or not dns.enabled or dns.zone is None:
        return
    services = [name for name in _SERVED if name in draft.platform.on]
    services += [name for name in draft.platform.applications if name in draft.platform.on]
    if dns.zone.answer not in services:
        meant = closest(dns.zone.answer, services)
        fix = f"did you mean {meant}?" if meant else f"take one of {', '.join(services)}"
        where = (*_PARTS, "dns", "zone", "answer")
        yield Problem(where, f"'{dns.zone.answer}' is no service that is on", fix)


def backups(draft: Draft) -> Iterator[Problem]:
    """Backups of etcd lie outside of it."""
    settings = draft.platform.known.etcd_backup
    homeless = settings is not None and settings.nfs is None and "nfs" not in draft.platform.on
    if "etcd-backup" in draft.platform.on and homeless:
        fix = "write `nfs: {server: HOST, path: /PATH}` under it, or turn the part nfs on"
        yield Problem((*_PARTS, "etcd_backup", "nfs"), "is missing, and the part nfs is off", fix)


def receivers(draft: Draft) -> Iterator[Problem]:
    """Every receiver is reached in one way, and has a name of its own."""
    monitoring = draft.platform.known.monitoring
    seen: set[str] = set()
    for i, receiver in enumerate(monitoring.receivers if monitoring is not None else ()):
        where = (*_PARTS, "monitoring", "receivers", i)
        ways = [way for way in _WAYS if getattr(receiver, way) is not None]
        if len(ways) != 1:
            fault = f"has {' and '.join(ways)}" if ways else "says no way to reach it"
            yield Problem(where, fault, f"write exactly one of {', '.join(_WAYS)}")
        if receiver.name in seen:
            yield Problem((*where, "name"), f"'{receiver.name}' is there twice", "give each receiver its own name")
        seen.add(receiver.name)
        mail = receiver.mail
        if mail is not None and (mail.username is None) != (mail.password is None):
            yield Problem((*where, "mail"), "has one of username and password", "write both or neither")


def applications(draft: Draft) -> Iterator[Problem]:
    """An application is an image with a port, or a ready-made one."""
    for name, application in draft.platform.known.applications.items():
        where = (*_PARTS, "applications", name)
        yield from _torrent(where, application, draft) if application.torrent else _service(where, application, draft)


def _torrent(where: Where, application: Application, draft: Draft) -> Iterator[Problem]:
    for key in sorted(application.model_fields_set - set(_BESIDE_TORRENT)):
        yield Problem(
            (*where, key), "is not for a ready-made torrent", "remove it, or write an image in place of torrent"
        )
    if application.enabled and _is_homeless(draft):
        yield Problem(where, *_HOMELESS)


def _service(where: Where, application: Application, draft: Draft) -> Iterator[Problem]:
    if application.image is None:
        yield Problem((*where, "image"), "is missing", "write for example `image: nginxinc/nginx-unprivileged:1.29.1`")
    if application.port is None:
        yield Problem((*where, "port"), "is missing", "write the port that the container listens on")
    if application.single_writer and application.replicas > 1:
        yield Problem((*where, "replicas"), "is more than 1, and single_writer is true", "write 1")
    if application.pull_secret is not None and application.pull_secret not in draft.logins:
        meant = closest(application.pull_secret, draft.logins)
        fix = f"did you mean {meant}?" if meant else "add its login there"
        fault = f"'{application.pull_secret}' is not in cluster.registries.credentials"
        yield Problem((*where, "pull_secret"), fault, fix)
    if application.enabled and application.volume is not None:
        yield from _volume((*where, "volume"), application.volume.storage_class, draft)


def _volume(where: Where, chosen: str | None, draft: Draft) -> Iterator[Problem]:
    longhorn, nfs, on = draft.platform.known.longhorn, draft.platform.known.nfs, draft.platform.on
    if ("longhorn" in on and longhorn is None) or ("nfs" in on and nfs is None):
        return
    named = {"longhorn": longhorn.default_class} if "longhorn" in on and longhorn is not None else {}
    named |= {nfs.storage_class: nfs.default_class} if "nfs" in on and nfs is not None else {}
    if chosen is None and not any(named.values()):
        fix = f"write one of {', '.join(named)}" if named else "turn the part longhorn or nfs on"
        yield Problem((*where, "storage_class"), "is missing, and no class is the default", fix)
    elif chosen is not None and chosen not in named:
        meant = closest(chosen, named)
        fix = f"did you mean {meant}?" if meant else f"take one of {', '.join(named) or 'longhorn and nfs, turned on'}"
        yield Problem((*where, "storage_class"), f"'{chosen}' is no class of the platform", fix)
