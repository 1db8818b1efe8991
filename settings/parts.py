"""The settings of each part of the platform. A part that the file doesn't name is off."""

from ipaddress import IPv4Address
from typing import Any

from pydantic import StrictBool, StrictInt

from . import kinds, platform_kinds
from .part import Part, key


class Switched(Part):
    """A part that can be off and keep its settings."""

    enabled: StrictBool = key("Whether it runs. False takes it away and keeps its settings.", default=True)


class Chart(Part):
    """What every part that is a Helm chart takes."""

    version: platform_kinds.ChartVersion | None = key(
        "Version of its chart. Absent: the one that this program was tested with.", default=None
    )
    values: dict[str, Any] = key(
        "Chart values, merged over this program's own, last. They may hold encrypted ones.", default_factory=dict
    )


class Cilium(Chart):
    """Cilium's chart. Whether it runs is cluster.cni's to say."""


class Kamaji(Chart):
    """Kamaji's chart. It runs where there are tenants."""


class MetalLB(Chart, Switched):
    """Gives services addresses of the LAN: platform.pools, announced by ARP."""


class MetricsServer(Chart, Switched):
    """What `kubectl top` and autoscalers read."""


class CertManager(Chart, Switched):
    """Makes and renews certificates; the home CA is its."""


class OwnCertificate(Part):
    """A certificate of the owner's."""

    certificate: platform_kinds.Certificates = key(
        "The certificate, and after it those that lead to its CA.", "PEM text", unit="PEM text"
    )
    key: kinds.Secret = key("Its private key, as a Pulumi secret.", "PEM text", unit="PEM text, secret")


class Tls(Part):
    """Where Traefik's certificate comes from."""

    own: OwnCertificate | None = key(
        "A certificate of your own. Absent: one of a home CA that the program makes.", default=None
    )


class Traefik(Chart, Switched):
    """Brings HTTP to the services, by host name."""

    certificate: Tls = key("Where its certificate comes from.", default_factory=Tls)
    dashboard: StrictBool = key("Traefik's own page at traefik.DOMAIN, behind a password.", default=True)


class Snapshots(Part):
    """Recurring snapshots of every volume."""

    schedule: platform_kinds.Cron = key("When.", default="0 2 * * *", unit="cron, UTC")
    keep: StrictInt = key("How many a volume keeps.", default=7, ge=1, le=250, unit="count")


class Longhorn(Chart, Switched):
    """Volumes that live on the nodes' own disks, in several replicas."""

    data_path: platform_kinds.DataPath = key("Where nodes keep replicas.", default="/var/lib/longhorn")
    replicas: StrictInt | None = key(
        "Replicas of a volume, each on a node of its own. Absent: 3, or as many as there are nodes.",
        default=None,
        ge=1,
        le=20,
        unit="count",
    )
    default_class: StrictBool = key("Whether volumes that name no class come from it.", default=True)
    minimum_disk_gb: StrictInt = key("Free room that every node must have for it.", default=10, ge=1, unit="GB")
    snapshots: Snapshots | None = key("Recurring snapshots. Absent: none.", default=None)
    backup: platform_kinds.BackupTarget | None = key(
        "Where volumes are backed up to. Absent: nowhere.", default=None, unit="nfs://HOST:/PATH"
    )


class Nfs(Chart, Switched):
    """Volumes on NFS: the owner's server, or one in the cluster on a chosen node."""

    server: kinds.Host | None = key("The owner's NFS server; or node, not both.", default=None)
    node: kinds.Name | None = key("Node that an NFS server of the cluster runs on.", default=None)
    path: platform_kinds.FilePath = key(
        "What the server exports; with node, where its data is on that node, under /var.", "/export"
    )
    storage_class: kinds.Name = key("Name of the StorageClass.", default="nfs")
    default_class: StrictBool = key("Whether volumes that name no class come from it.", default=False)


class Zone(Part):
    """A second DNS server that answers every name of a zone with one address, at platform.addresses.dns-zone."""

    name: kinds.DnsName = key("The zone.", "home.example")
    answer: kinds.Name = key("The service whose address is the answer.", default="traefik")


class Dns(Switched):
    """AdGuard Home for the house, at platform.addresses.dns."""

    version: platform_kinds.ChartVersion | None = key(
        "Version of AdGuard Home. Absent: the one that this program was tested with.", default=None
    )
    upstreams: tuple[kinds.Address, ...] = key(
        "Servers that are asked for all other names, by address: a name would have to be resolved first.",
        default=(IPv4Address("9.9.9.9"), IPv4Address("1.1.1.1")),
    )
    zone: Zone | None = key("A second DNS server for a zone. Absent: none.", default=None)
    records: dict[platform_kinds.RecordName, kinds.Address] = key(
        "More names -> address. Nodes, VIP and every host of the platform are there by themselves.",
        default_factory=dict,
    )


class Ntfy(Part):
    """A topic at an ntfy server."""

    url: kinds.Url = key("The server.", default="https://ntfy.sh")
    topic: platform_kinds.Topic = key("The topic.", "homelab")
    token: kinds.Secret | None = key("Access token, as a Pulumi secret, if the topic asks for one.", default=None)


class Telegram(Part):
    """A Telegram chat."""

    chat_id: StrictInt = key("Number of the chat; that of a group is negative.", 1234567)
    token: kinds.Secret = key("Token of the bot, as a Pulumi secret.", "secret")


class Webhook(Part):
    """Alertmanager's own JSON, posted to a URL."""

    url: platform_kinds.SecretUrl = key("The URL; it may be encrypted.", "https://hooks.home.example/alerts")


class Mail(Part):
    """Mail through a server that speaks STARTTLS or TLS."""

    to: platform_kinds.MailAddress = key("Who gets it.", "me@home.example")
    sender: platform_kinds.MailAddress = key("Who it comes from.", "homelab@home.example")
    smarthost: platform_kinds.Smarthost = key("The mail server.", "mail.home.example:587", unit="host:port")
    username: str | None = key("User at the mail server.", default=None)
    password: kinds.Secret | None = key("Password of that user, as a Pulumi secret.", default=None)


class Receiver(Part):
    """Who hears of alerts, in exactly one way."""

    name: kinds.Name = key("Name of the receiver.", "phone")
    ntfy: Ntfy | None = key("A topic at an ntfy server.", default=None)
    telegram: Telegram | None = key("A Telegram chat.", default=None)
    webhook: Webhook | None = key("Alertmanager's own JSON, posted to a URL.", default=None)
    mail: Mail | None = key("Mail.", default=None)


class Monitoring(Chart, Switched):
    """Prometheus, Alertmanager and Grafana."""

    retention_days: StrictInt = key("How long metrics are kept.", default=15, ge=1, le=3650, unit="days")
    storage_gb: StrictInt = key("Room for them.", default=10, ge=1, unit="GB")
    grafana_plugins: tuple[platform_kinds.Plugin, ...] = key("Plugins that Grafana installs at start.", default=())
    receivers: tuple[Receiver, ...] = key("Who hears of alerts.", default=())


class Headlamp(Chart, Switched):
    """The cluster in a browser, at k8s.DOMAIN."""


class NfsTarget(Part):
    """A folder on an NFS server."""

    server: kinds.Host = key("The server.", "192.168.1.10")
    path: platform_kinds.FilePath = key("What it exports.", "/export/backups")


class EtcdBackup(Switched):
    """Snapshots of etcd, checked and kept on NFS."""

    schedule: platform_kinds.Cron = key("When.", default="30 3 * * *", unit="cron, UTC")
    keep: StrictInt = key("How many are kept at least.", default=14, ge=1, unit="count")
    max_age_days: StrictInt = key("Older ones are removed, down to `keep`.", default=30, ge=1, unit="days")
    minimum_mb: StrictInt = key("A smaller snapshot is taken for a failed one.", default=1, ge=1, unit="MB")
    nfs: NfsTarget | None = key("Where they are kept. Absent: on the nfs part's server.", default=None)
