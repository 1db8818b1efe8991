"""The services of a household: each an image with a port and a host name, or a ready-made one."""

from typing import Literal

from pydantic import StrictBool, StrictInt

from . import kinds, platform_kinds
from .part import Part, key


class Torrent(Part):
    """rTorrent with Flood, ready-made: one replica, never two at once."""

    port: StrictInt = key(
        "Port that peers connect to, at the service's own address; the router forwards it.",
        default=23340,
        ge=1024,
        le=65535,
        unit="TCP and UDP port",
    )
    storage_gb: StrictInt = key("Room for the data.", default=500, ge=1, unit="GB")


class Volume(Part):
    """A volume of an application."""

    path: platform_kinds.FilePath = key("Where the container finds it.", "/data")
    size_gb: StrictInt = key("Its size.", default=1, ge=1, unit="GB")
    storage_class: kinds.Name | None = key(
        "longhorn, or the name that nfs.storage_class has. Absent: the default class.", default=None
    )


class Requests(Part):
    """What an application's pod is sure to get."""

    cpu: platform_kinds.Cpu = key("Processor time.", default="50m", unit="cores or m")
    memory: platform_kinds.Memory = key("Memory.", default="64Mi", unit="bytes, Ki, Mi, Gi")


class Application(Part):
    """One service of the household."""

    enabled: StrictBool = key("Whether it runs. False takes it away and keeps its settings.", default=True)
    torrent: Torrent | None = key("The ready-made rTorrent with Flood, in place of an image.", default=None)
    image: platform_kinds.Image | None = key(
        "Image with a tag that stays, or a digest; it must be there for arm64.", default=None
    )
    port: StrictInt | None = key("Port that the container listens on.", default=None, ge=1, le=65535, unit="TCP port")
    host: kinds.DnsName | None = key("Name in the house. Absent: NAME.DOMAIN, of platform.domain.", default=None)
    replicas: StrictInt = key("How many pods.", default=1, ge=0, le=100, unit="count")
    single_writer: StrictBool = key(
        "Never two pods at once, also on update: for programs that lock their files.", default=False
    )
    volume: Volume | None = key("Where it keeps its data. Absent: it keeps none.", default=None)
    env: dict[platform_kinds.Variable, platform_kinds.VariableValue] = key(
        "Environment variables; values may be encrypted.", default_factory=dict
    )
    pull_secret: kinds.Host | None = key(
        "Registry whose login of cluster.registries.credentials pulls the image.", default=None
    )
    user: StrictInt = key("User and group of the process. Not 0: nothing runs as root.", default=1000, ge=1, unit="uid")
    requests: Requests = key("What its pod is sure to get.", default_factory=Requests)

    @property
    def kind(self) -> Literal["torrent", "service"]:
        """Which component builds it."""
        return "torrent" if self.torrent is not None else "service"
