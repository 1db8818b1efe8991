"""What runs on the cluster, and at which names and addresses the house finds it."""

from collections.abc import Iterator
from ipaddress import IPv4Address

from pydantic import StrictBool

from . import kinds, parts, ranges
from .applications import Application
from .part import Part, key

PARTS = (
    "metallb",
    "metrics-server",
    "cert-manager",
    "traefik",
    "longhorn",
    "nfs",
    "dns",
    "monitoring",
    "headlamp",
    "etcd-backup",
)
"""The parts that can be on or off, by the names of their components. Cilium is cluster.cni's to say."""

HOSTS = {"traefik": "traefik", "grafana": "monitoring", "adguard": "dns", "longhorn": "longhorn", "k8s": "headlamp"}
"""First label of a host -> the part whose page it shows."""

ZONE = "dns-zone"
"""The service that answers a whole zone, beside the one of the dns part."""


class Charts(Part):
    """Where charts come from."""

    mirror: kinds.Url | None = key("A chart repository that has them all. Absent: each from its own.", default=None)


class Platform(Part):
    """What runs on the cluster. Parts that are None are off."""

    domain: kinds.DnsName = key("Domain of the host names, such as grafana.local.", default="local")
    charts: Charts = key("Where charts come from.", default_factory=Charts)
    pools: tuple[ranges.Range, ...] = key(
        "Addresses of the LAN that services may get: apart from the DHCP range, nodes, boards, gateway and VIP.",
        default=(),
        unit="list: FIRST-LAST or network",
    )
    addresses: dict[kinds.Name, kinds.Address] = key(
        "Service -> its own address out of the pools. Services are traefik, dns, dns-zone and applications.",
        default_factory=dict,
    )
    network_policies: StrictBool = key(
        "Whether parts bring NetworkPolicies. Needs a cluster.cni that enforces them.", default=False
    )
    cilium: parts.Cilium | None = key("Cilium's chart; cluster.cni says whether it runs.", default=None)
    kamaji: parts.Kamaji | None = key("Kamaji's chart; it runs where there are tenants.", default=None)
    metallb: parts.MetalLB | None = key("MetalLB: gives services addresses of the LAN.", default=None)
    metrics_server: parts.MetricsServer | None = key("What `kubectl top` reads.", default=None)
    cert_manager: parts.CertManager | None = key("Makes and renews certificates.", default=None)
    traefik: parts.Traefik | None = key("Brings HTTP to the services, by host name.", default=None)
    longhorn: parts.Longhorn | None = key("Volumes on the nodes' own disks, in several replicas.", default=None)
    nfs: parts.Nfs | None = key("Volumes on NFS. Its keys say exactly one of server and node.", default=None)
    dns: parts.Dns | None = key("AdGuard Home: DNS for the house.", default=None)
    monitoring: parts.Monitoring | None = key("Prometheus, Alertmanager and Grafana.", default=None)
    headlamp: parts.Headlamp | None = key("The cluster in a browser.", default=None)
    etcd_backup: parts.EtcdBackup | None = key("Daily snapshots of etcd.", default=None)
    applications: dict[kinds.Name, Application] = key("Name -> a service of the household.", default_factory=dict)

    @property
    def any(self) -> bool:
        """Whether any part or application is on. Cilium doesn't count: that is `cluster.cni.is_cilium`."""
        return any(self.on(name) for name in (*PARTS, *self.applications))

    @property
    def hosts(self) -> dict[str, str]:
        """Host name -> the part or application that answers it. Empty without Traefik, which brings them all."""
        return dict(self.every_host())

    def on(self, name: str) -> bool:
        """Whether a part (`cert-manager` or `cert_manager`) or an application is on. An unknown name is off."""
        if name in self.applications:
            return self.applications[name].enabled
        attribute = name.replace("-", "_")
        part = getattr(self, attribute) if attribute.replace("_", "-") in PARTS else None
        return part is not None and bool(part.enabled)

    def address(self, service: str) -> IPv4Address | None:
        """The fixed address of a service, or None where it takes any of the pools or none."""
        return self.addresses.get(service)

    def host(self, name: str) -> str | None:
        """The host name of a part or application, or None where it has none."""
        return next((host for host, owner in self.hosts.items() if owner == name), None)

    def every_host(self) -> Iterator[tuple[str, str]]:
        """The pairs that `hosts` is made of, before a host that is there twice becomes one."""
        if not self.on("traefik"):
            return
        for label, part in HOSTS.items():
            if self.on(part) and (part != "traefik" or (self.traefik is not None and self.traefik.dashboard)):
                yield f"{label}.{self.domain}", part
        for name, application in self.applications.items():
            if application.enabled:
                yield application.host or f"{name}.{self.domain}", name
