"""Pools of machines that boot from the network: settings become plain data, and each machine a component of its own.

Nothing of a pool records a dependency on a machine, nor a machine on the boot service: `components.after` orders them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pulumi

from components.after import after
from components.pool_clusters import Joined, joined
from providers.netboot import dnsmasq, scripts
from providers.netboot.join import ANYBODY
from providers.netboot.plan import Approval, Image, Loaders, Machine, Mode, Pool, Service
from providers.netboot.resources import Booted, Folder, Join
from providers.talos.resources import Cluster
from providers.talos.schematic import Schematic, installer
from providers.talos.wire import pack_for_worker, unpack
from settings import Settings
from settings.pools import BootService as ServiceSettings
from settings.pools import Pool as PoolSettings
from settings.pools import PoolMachine, Tag, TalosImage

if TYPE_CHECKING:  # what it imports takes longer than a cluster without a platform
    from components.part import Part, Site

# What Talos refuses to start without, and what its own images are started with.
TALOS_ARGUMENTS = (
    *("talos.platform=metal", f"talos.config={scripts.CONFIG}"),
    *("init_on_alloc=1", "slab_nomerge", "pti=on", "consoleblank=0"),
    *("nvme_core.io_timeout=4294967295", "printk.devkmsg=on"),
)
ARM64_LOADER = "ipxe-arm64.efi"
BOOT_SERVICE = "boot-service"

Fields = dict[str, Any]


def talos_version(lab: Settings, image: TalosImage) -> str:
    """The Talos that a pool boots."""
    return image.version or lab.cluster.talos.version


def image_of(lab: Settings, name: str, pool: PoolSettings) -> Image:
    """What a pool boots. Another content has another name, so that nothing of an old one is served for it."""
    talos, linux = pool.image.talos, pool.image.linux
    if talos is not None:
        version, recipe = talos_version(lab, talos), Schematic("", talos.extensions)
        base = f"{lab.cluster.talos.factory}/image/{recipe.id}/{version}"
        arch = talos.architecture.value
        return Image(
            f"talos-{version}-{recipe.id[:12]}-{arch}",
            (*TALOS_ARGUMENTS, *talos.arguments),
            f"{base}/kernel-{arch}",
            f"{base}/initramfs-{arch}.xz",
        )
    if linux is None:
        raise AssertionError(f"pools.{name}.image: neither talos nor linux")  # the settings' checks see to it
    return Image(f"{name}-{linux.release}", linux.arguments, linux.kernel, linux.initramfs)


def images(lab: Settings) -> list[dict[str, str]]:
    """Every image that is served, with where its files come from and their SHA-256 where the settings tell it."""
    found: dict[str, dict[str, str]] = {}
    for name, pool in lab.pools.items():
        image, linux = image_of(lab, name, pool), pool.image.linux
        sums = {"kernel_sha256": linux.kernel_sha256, "initramfs_sha256": linux.initramfs_sha256} if linux else {}
        given = {"name": image.name, "kernel": image.kernel, "initramfs": image.initramfs, **sums}
        found[image.name] = {key: value for key, value in given.items() if value}
    return [found[name] for name in sorted(found)]


def service(lab: Settings, settings: ServiceSettings) -> Service:
    """The boot service as plain data."""
    network, given = lab.cluster.network, settings.range
    return Service(
        address=settings.address,
        subnet=network.subnet,
        port=settings.port,
        interface=settings.interface or "",
        mode=Mode(settings.mode.value),
        first=given.first if given else None,
        last=given.last if given else None,
        lease=f"{settings.lease_minutes}m",
        gateway=network.gateway,
        nameservers=network.nameservers,
        loaders=Loaders(arm64=ARM64_LOADER if settings.arm64_loader else ""),
    )


def plan(lab: Settings, paths: Mapping[str, Mapping[str, str]]) -> list[Pool]:
    """The pools as plain data.

    Args:
        lab: the settings.
        paths: pool -> entry -> path of its config.
    """
    return [_pool(lab, name, pool, paths.get(name, {})) for name, pool in lab.pools.items()]


def _pool(lab: Settings, name: str, pool: PoolSettings, paths: Mapping[str, str]) -> Pool:
    machines = tuple(
        Machine(own, one.mac, one.uuid or "", one.address, one.tags, paths.get(own, ""))
        for own, one in pool.machines.items()
    )
    return Pool(
        name,
        image_of(lab, name, pool),
        machines,
        first=pool.range.first if pool.range else None,
        last=pool.range.last if pool.range else None,
        approval=Approval(pool.catch_all.approval.value) if pool.catch_all else None,
        config=paths.get(ANYBODY, ""),
        options=pool.dhcp_options,
        tags={tag: settings.dhcp_options for tag, settings in pool.tags.items()},
    )


def joins(pool: PoolSettings, machine: PoolMachine) -> bool:
    """Whether a machine is given what it joins with: Talos would write its disk, so that needs a word."""
    return pool.image.linux is not None or machine.generation > 0


def entries(lab: Settings, pool: PoolSettings, dns: str = "") -> dict[str, Fields]:
    """Who is given a config: machine, or `ANYBODY` for those that the settings don't name -> what stands in it."""
    named = {name: _fields(lab, pool, name, one, dns) for name, one in pool.machines.items() if joins(pool, one)}
    automatic = pool.catch_all is not None and pool.catch_all.approval.value == Approval.AUTOMATIC.value
    # A range names machines as well as a MAC address does; who gets such an address is the owner's to say.
    return {**named, ANYBODY: _fields(lab, pool, "", None, dns)} if automatic or pool.range is not None else named


def _fields(lab: Settings, pool: PoolSettings, name: str, machine: PoolMachine | None, dns: str) -> Fields:
    places: list[PoolSettings | Tag] = [pool, *(pool.tags[tag] for tag in (machine.tags if machine else ()))]
    labels = {key: value for place in places for key, value in place.labels.items()}
    taints = {key: str(value) for place in places for key, value in place.taints.items()}
    shown = {"name": name, "labels": labels, "taints": taints}
    if pool.image.talos is None:
        return {**shown, "dns": dns} if dns else shown
    return _kept({**shown, **_talos(lab, pool, pool.image.talos), "mac": machine.mac if machine else ""})


def _talos(lab: Settings, pool: PoolSettings, image: TalosImage) -> Fields:
    cluster, version = lab.cluster, talos_version(lab, image)
    return {
        "cluster": cluster.name,
        "role": "worker",
        "address": "",  # DHCP's to give
        "vip": str(cluster.endpoint.vip),
        "dns": cluster.endpoint.dns,
        "port": cluster.endpoint.port,
        "subnet": str(cluster.network.subnet),
        "nameservers": [str(address) for address in cluster.network.nameservers],
        "time_servers": list(cluster.network.time_servers),
        "talos": version,
        "kubernetes": cluster.kubernetes.version,
        "installer": installer(cluster.talos.factory, Schematic("", image.extensions).id, version),
        "extensions": list(image.extensions),
        "disk": pool.install,
        "cni": cluster.cni.value,
        "pod_subnets": [str(subnet) for subnet in cluster.pod_subnets],
        "service_subnets": [str(subnet) for subnet in cluster.service_subnets],
        "mirrors": {host: list(urls) for host, urls in cluster.registries.mirrors.items()},
        "patches": list(cluster.patches),
    }


def _kept(fields: Fields) -> Fields:
    return {key: value for key, value in fields.items() if value not in (None, [], {}, ())}


def power_of(lab: Settings, machine: PoolMachine) -> Fields:
    """Who switches a machine, as `providers.netboot.power` takes it."""
    redfish = machine.power.redfish if machine.power else None
    wake = machine.power.wake_on_lan if machine.power else None
    if redfish is not None:
        return {
            "kind": "redfish",
            "url": redfish.url,
            "username": redfish.username,
            "password": redfish.password.get_secret_value(),
            "fingerprint": redfish.fingerprint or "",
            "system": redfish.system or "",
            "boot": redfish.boot.value,
        }
    if wake is not None:
        return {"kind": "wake", "broadcast": str(wake.broadcast or lab.cluster.network.subnet.broadcast_address)}
    return {"kind": "hand"}


@dataclass(frozen=True)
class Files:
    """What the boot service serves.

    Attributes:
        texts: path under the HTTP root -> text; a secret, as configs are among them.
        expires: second since 1970 at which the first of the configs ends.
        conf: dnsmasq's file.
    """

    texts: pulumi.Output[dict[str, str]]
    expires: pulumi.Output[str]
    conf: str


class Netboot:
    """All pools of a lab: what their machines join with, and the files that the boot service serves.

    Args:
        lab: the settings.
        bundle: the Talos cluster's secrets.
        cluster: that of Talos.
        kubeconfigs: of the clusters on Linux hosts, by name.
    """

    def __init__(
        self,
        lab: Settings,
        bundle: pulumi.Output[str],
        cluster: Cluster,
        kubeconfigs: Mapping[str, pulumi.Output[str]],
    ) -> None:
        self._lab = lab
        self._cluster = cluster
        self._kubeconfigs = kubeconfigs
        self._worker = bundle.apply(lambda whole: pack_for_worker(unpack(whole)))  # secret, as the bundle is
        settings = lab.boot_service
        if settings is None:
            raise AssertionError("pools without a boot service")  # the settings' checks see to it
        self._settings = settings
        self._service = service(lab, settings)

    @property
    def in_cluster(self) -> tuple[Callable[[Site, Sequence[Part]], Part], ...]:
        """What the platform builds of it: the boot service, where it runs on a node. Tenants are there by then."""
        return () if self._settings.node is None else (self._boot_service,)

    def start(self, parts: Sequence[Part]) -> None:
        """Have every machine boot, once the boot service has its files.

        Args:
            parts: of the platform, the boot service among them where it runs on a node.
        """
        served: list[pulumi.Resource] = [made for part in parts if part.name == BOOT_SERVICE for made in part.made]
        clusters = self._joined(parts)
        if self._settings.folder is not None:
            served.append(self._folder(self._settings.folder, clusters))
        names = [name for pool in self._lab.pools.values() for name in pool.machines]
        for pool, settings in self._lab.pools.items():
            for name in settings.machines:
                PoolNode(self._lab, pool, name, names.index(name), self._cluster, clusters[pool], served)

    def _boot_service(self, site: Site, parts: Sequence[Part]) -> Part:
        from components.boot_service import BootService  # noqa: PLC0415  # its imports are for labs that run it

        return BootService(site, self._files(self._joined(parts)))

    def _folder(self, path: str, clusters: Mapping[str, Joined]) -> Folder:
        """Write the files to a folder of this machine."""
        files = self._files(clusters)
        props = {"folder": path, "conf": files.conf, "files": files.texts, "images": images(self._lab)}
        return Folder(BOOT_SERVICE, props)

    def _joined(self, parts: Sequence[Part]) -> dict[str, Joined]:
        return joined(self._lab, self._cluster, self._kubeconfigs, parts)

    def _files(self, clusters: Mapping[str, Joined]) -> Files:
        """Have every pool's configs made, and lay them out among the scripts."""
        joins = {name: join for name in self._lab.pools if (join := self._join(name, clusters[name])) is not None}
        given = pulumi.Output.all(**{name: join.configs for name, join in joins.items()})
        ends = pulumi.Output.all(*(join.expires for join in joins.values()))
        return Files(
            texts=given.apply(self._texts),  # secret, as what it is made of
            expires=ends.apply(lambda found: str(int(min(found, default=0)))),
            conf=dnsmasq.config(self._service, plan(self._lab, {})),
        )

    def _join(self, name: str, cluster: Joined) -> Join | None:
        pool = self._lab.pools[name]
        listed = entries(self._lab, pool, cluster.dns)
        talos = pool.image.talos
        if not listed and talos is None:
            return None  # with Talos the factory is to be told of the schematic, though nobody joins yet
        props = {
            "pool": name,
            "kind": "talos" if talos else "linux",
            "entries": listed,
            "hours": pool.token_hours,
            **({"secrets": self._worker} if talos else {}),
            "beside": cluster.beside,
            "kubeconfig": cluster.kubeconfig,
            "factory": self._lab.cluster.talos.factory,
            "recipe": Schematic("", talos.extensions).yaml if talos else "",
        }
        return Join(f"{name}-join", props, pulumi.ResourceOptions(deleted_with=self._cluster))

    def _texts(self, given: Mapping[str, str]) -> dict[str, str]:
        configs = {name: json.loads(text) for name, text in given.items()}
        paths = {name: {entry: one["path"] for entry, one in found.items()} for name, found in configs.items()}
        texts = {one["path"]: one["text"] for found in configs.values() for one in found.values()}
        return {**scripts.tree(self._service, plan(self._lab, paths)), **texts}


class PoolNode(pulumi.ComponentResource):
    """One machine of a pool. Its child carries its name with a terminator, as a node's children do.

    It is the same resource in whichever pool and cluster the machine is, so another one moves it. Whatever cluster that
    is, it goes with the Talos cluster, as the boot service does.
    """

    def __init__(
        self,
        lab: Settings,
        pool: str,
        name: str,
        rank: int,
        home: Cluster,
        cluster: Joined,
        served: Sequence[pulumi.Resource],
    ) -> None:
        super().__init__("homelab:PoolNode", name)
        settings = lab.pools[pool]
        machine = settings.machines[name]
        props = {
            "node": name,
            "pool": pool,
            "mac": machine.mac,
            "image": after(image_of(lab, pool, settings).name, *served),
            "power": pulumi.Output.secret(power_of(lab, machine)),
            "kubeconfig": cluster.kubeconfig,
            "cluster": cluster.name,
            "beside": cluster.beside,
            "network": cluster.network,
            "rank": rank,
            "roll": settings.roll,
            "joins": joins(settings, machine),
        }
        self.booted = Booted(f"{name}-booted", props, pulumi.ResourceOptions(parent=self, deleted_with=home))
        self.register_outputs({})
