"""rTorrent with Flood as its page: one pod, never two at once, because two on one session would destroy it."""

from __future__ import annotations

from typing import Any

from components import storage
from components.guard import USER, Guard, guard
from components.ingress import ingress
from components.metallb import addressed
from components.part import Part, Site
from components.policy import Door, policy
from components.traefik import NAMESPACE as TRAEFIK
from components.versions import IMAGES
from components.workload import (
    HTTP_PORT,
    ROOT_REASON,
    Container,
    Port,
    claim,
    deployment,
    env,
    secret,
    service,
)
from settings.applications import Application as Settings
from settings.applications import Torrent as TorrentSettings

OWNER = 1000  # user and group of both programs: Flood talks to rTorrent through a socket that only they may open
PAGE = 3000
RPC = 8000
SOCKET = "/var/run/rtorrent"
LOGINS = ("rpc", "rutorrent", "webdav")
# What its init needs to hand files over and to become `OWNER`.
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "KILL")
REASON = "the image of rTorrent begins as root to hand its folders over to user 1000, and becomes that user"


class Torrent(Part):
    """rTorrent and Flood in one pod, data on NFS, and an address in the LAN for peers.

    Args:
        site: where it is built.
        name: of the application.
        settings: with `torrent`.
    """

    def __init__(self, site: Site, name: str, settings: Settings) -> None:
        super().__init__(name, site)
        torrent = settings.torrent or TorrentSettings()
        namespace = self.namespace(name)
        storage_class = storage.nfs_class(site.lab)
        data = self.object("volume", claim("data", name, torrent.storage_gb, storage_class), [namespace])
        host = site.lab.platform.host(name)
        login = guard(self, name, namespace) if host else None
        inside = self.object("logins", self._logins(), [namespace])
        pods = self.object("deployment", manifest(name, torrent), [data, inside])
        page = self.object("service", service(name, name, [Port("http", PAGE, HTTP_PORT)]), [namespace])
        self._peers(torrent, namespace)
        doors = [Door(Port("http", PAGE, HTTP_PORT), TRAEFIK), *map(Door, peer_ports(torrent.port))]
        policy(self, name, name, doors, [namespace])
        self._ingress(host, login, [page, pods])
        self.register_outputs({})

    def _logins(self) -> dict[str, Any]:
        """RTorrent's own doors inside of the pod; without a login in their files they would be open to every pod."""
        password = self.password("rpc-password")
        line = password.bcrypt_hash.apply(lambda hashed: f"{USER}:{hashed}\n")
        return secret("logins", self.name, {f"{door}.htpasswd": line for door in LOGINS})

    def _peers(self, torrent: TorrentSettings, namespace: Any) -> None:
        front = service(
            f"{self.name}-peers",
            self.name,
            peer_ports(torrent.port),
            app=self.name,
            lan=True,
            annotations=addressed(self.site, self.name),
        )
        self.object("peers", front, [namespace])

    def _ingress(self, host: str | None, login: Guard | None, after: list[Any]) -> None:
        if login is not None:
            needs = [*after, *login.resources]
            ingress(self, host, self.name, self.name, HTTP_PORT, depends_on=needs, annotations=login.annotations)


def peer_ports(port: int) -> list[Port]:
    """TCP for peers and UDP for the table of all peers, by one number inside and outside: peers are told it."""
    return [Port("peers", port, port), Port("dht", port, port, "UDP")]


def manifest(name: str, torrent: TorrentSettings) -> dict[str, Any]:
    """The Deployment."""
    return deployment(
        name,
        name,
        [_rtorrent(torrent), _flood()],
        user=OWNER,
        never_two=True,
        init=[_doors()],
        volumes=[
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "logins", "secret": {"secretName": "logins"}},
            {"name": "doors", "emptyDir": {}},
            {"name": "socket", "emptyDir": {}},
        ],
        annotations={ROOT_REASON: REASON},
    )


def _doors() -> Container:
    """RTorrent's init touches these files, and a Secret cannot be written to."""
    return Container(
        name="doors",
        image=IMAGES["rtorrent"],
        requests={"cpu": "10m", "memory": "16Mi"},
        command=["sh", "-c", "cp /logins/*.htpasswd /passwd/"],
        mounts={"/logins": "logins", "/passwd": "doors"},
    )


def _rtorrent(torrent: TorrentSettings) -> Container:
    """It removes the lock of a pod that is gone at start, which is right only as long as there are never two."""
    return Container(
        name="rtorrent",
        image=IMAGES["rtorrent"],
        requests={"cpu": "200m", "memory": "512Mi"},
        ports=peer_ports(torrent.port),
        probe=RPC,
        mounts={"/data": "data/session", "/downloads": "data/downloads", "/passwd": "doors", SOCKET: "socket"},
        env=env(
            {
                "PUID": str(OWNER),
                "PGID": str(OWNER),
                "RT_INC_PORT": str(torrent.port),
                "RT_DHT_PORT": str(torrent.port),
            }
        ),
        capabilities=CAPABILITIES,
        root=True,
    )


def _flood() -> Container:
    """It sees the downloads under the path that rTorrent tells, and asks for no login: that is Traefik's to do."""
    return Container(
        name="flood",
        image=IMAGES["flood"],
        requests={"cpu": "50m", "memory": "192Mi"},
        ports=[Port("http", PAGE, HTTP_PORT)],
        probe=PAGE,
        mounts={"/flood": "data/flood", "/downloads": "data/downloads", SOCKET: "socket"},
        env=env(
            {
                "FLOOD_OPTION_host": "0.0.0.0",  # noqa: S104  # inside of the pod
                "FLOOD_OPTION_port": str(PAGE),
                "FLOOD_OPTION_rundir": "/flood",
                "FLOOD_OPTION_auth": "none",
                "FLOOD_OPTION_rtsocket": f"{SOCKET}/scgi.socket",
                "FLOOD_OPTION_allowedpath": "/downloads",
                "HOME": "/flood",
            }
        ),
    )
