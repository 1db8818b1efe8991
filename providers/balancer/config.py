"""The files of HAProxy and keepalived. Pure texts: what a host is called and where it is comes from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ALIVE = "/alive"  # HAProxy's own word, whatever the API servers do


@dataclass(frozen=True)
class Front:
    """What HAProxy listens at and passes on.

    Attributes:
        name: the cluster's.
        bind: "ADDRESS:PORT" that clients dial; "*:6443" for every address.
        backends: control plane to "ADDRESS:PORT" of its API server.
        status: "ADDRESS:PORT" of the page for people and of the word for keepalived; a loopback address.
        user: who HAProxy is once it has its ports; "" where it is started as nobody special.
    """

    name: str
    bind: str
    backends: Mapping[str, str]
    status: str = "127.0.0.1:8404"
    user: str = "haproxy"


@dataclass(frozen=True)
class Sharing:
    """How the hosts share the VIP.

    Attributes:
        vip: the address that moves.
        router: VRRP's number of it, 1 to 255; one for each VIP of a LAN.
        interface: this host's, in the VIP's network.
        address: this host's, on that interface.
        peers: the other hosts' addresses.
        priority: 1 to 254; the highest living one begins.
    """

    vip: str
    router: int
    interface: str
    address: str
    peers: Sequence[str]
    priority: int


def haproxy(front: Front, *, check_s: float = 2.0, ca_file: str | None = None) -> str:
    """`haproxy.cfg`: TCP to the API servers whose /readyz says 200.

    TLS ends at the API servers: clients check the cluster's CA there, so the probe need not.

    Args:
        front: what to listen at and where to pass on.
        check_s: seconds between two probes; three failures take a server out, two successes bring it back.
        ca_file: a CA on the host that probes check API servers against; without one they don't.
    """
    verify = f"required ca-file {ca_file}" if ca_file else "none"
    inter = f"{round(check_s * 1000)}ms"
    servers = [f"    server {name} {address}" for name, address in sorted(front.backends.items())]
    return "\n".join(
        [
            "# Written by homelab. A change by hand is taken back by the next `up`.",
            "global",
            "    log /dev/log local0",
            "    maxconn 4096",
            *([f"    user {front.user}", f"    group {front.user}"] if front.user else []),
            "",
            "defaults",
            "    log global",
            "    mode tcp",
            "    option dontlognull",
            "    timeout connect 5s",
            "    timeout check 3s",
            "    # A watch is silent for minutes; a peer that vanished is found by keepalives.",
            "    timeout client 30m",
            "    timeout server 30m",
            "    option clitcpka",
            "    option srvtcpka",
            "",
            "frontend status",
            "    mode http",
            f"    bind {front.status}",
            "    timeout client 10s",
            f"    monitor-uri {ALIVE}",
            "    http-request use-service prometheus-exporter if { path /metrics }",
            "    stats enable",
            "    stats uri /stats",
            "",
            f"frontend {front.name}-api",
            f"    bind {front.bind}",
            "    option tcplog",
            f"    default_backend {front.name}-api-servers",
            "",
            f"backend {front.name}-api-servers",
            "    balance roundrobin",
            "    option httpchk",
            "    http-check connect ssl alpn h2,http/1.1",
            "    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host kubernetes",
            "    http-check expect status 200",
            (
                f"    default-server inter {inter} fall 3 rise 2 on-marked-down shutdown-sessions "
                f"check check-ssl verify {verify}"
            ),
            *servers,
            "",
        ]
    )


def keepalived(name: str, sharing: Sharing, status: str = "127.0.0.1:8404") -> str:
    """`keepalived.conf`: the VIP is on a host whose HAProxy answers.

    The check has no weight: a host whose HAProxy is silent gives the VIP up at once, and takes it back only when the
    one that has it falters. (With a weight and `nopreempt` the others would never take over from a living master.)
    """
    peers = [f"        {peer}" for peer in sorted(sharing.peers)]
    return "\n".join(
        [
            "# Written by homelab. A change by hand is taken back by the next `up`.",
            "global_defs {",
            f"    router_id {name}",
            "    script_user root",
            "    enable_script_security",
            "}",
            "",
            "vrrp_script haproxy {",
            f'    script "/usr/bin/curl -sf --max-time 2 -o /dev/null http://{status}{ALIVE}"',
            "    interval 2",
            "    timeout 3",
            "    fall 2",
            "    rise 2",
            "}",
            "",
            f"vrrp_instance {name} {{",
            "    state BACKUP",
            "    nopreempt",
            f"    interface {sharing.interface}",
            f"    virtual_router_id {sharing.router}",
            f"    priority {sharing.priority}",
            "    advert_int 1",
            f"    unicast_src_ip {sharing.address}",
            *(["    unicast_peer {", *peers, "    }"] if peers else []),
            "    virtual_ipaddress {",
            f"        {sharing.vip}/32",
            "    }",
            "    track_script {",
            "        haproxy",
            "    }",
            "}",
            "",
        ]
    )
