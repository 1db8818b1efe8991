"""What a server says of itself: whether it runs, what it keeps its data in, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from providers.errors import ForeignNodeError, RefusedError
from providers.k3s import files
from providers.ssh.client import Host


@dataclass(frozen=True)
class Seen:
    """One server of a cluster.

    Attributes:
        running: whether its k3s runs and is ready.
        token: the servers' token, in its short form.
        authority: the certificate that signs its API's.
    """

    running: bool
    token: str = field(repr=False)
    authority: bytes = field(repr=False)


def look(host: Host, cluster: str) -> Seen:
    """See what a server is. Changes nothing.

    Raises:
        ForeignNodeError: it is no server of this cluster.
        RefusedError: it keeps its data in SQLite.
    """
    token = (host.read(files.SERVER_TOKEN) or b"").decode().strip().rpartition(":")[2]
    marked, authority = (host.read(files.MARK) or b"").decode(), host.read(files.TLS)
    if not token or authority is None or marked != files.mark(cluster, token):
        raise ForeignNodeError(f"{host.target.place}: is no server of {cluster} yet; `homelab up` makes it one")
    # Its folder would not tell: between k3s' moving it aside and a restore that was cut off, there is none.
    if not files.origin_of(host.read(files.CONFIG)):
        raise RefusedError(
            f"{host.target.place}: keeps its data in SQLite, of which there are no snapshots; with "
            f"clusters.{cluster}.k3s.etcd: true, `homelab up` makes etcd of it"
        )
    running = host.run("systemctl is-active k3s", check=False).out.strip() == "active"
    return Seen(running, token, authority)
