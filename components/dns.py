"""DNS for the house: AdGuard Home, and beside it, if wished, a server that answers a whole zone with one address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
import yaml

from components import storage
from components.ingress import ingress
from components.metallb import addressed
from components.part import Part, Site
from components.policy import Door, policy
from components.traefik import NAMESPACE as TRAEFIK
from components.versions import IMAGES
from components.workload import CHECKSUM, HTTP_PORT, Container, Port, checksum, claim, deployment, secret, service
from providers.errors import UserError
from settings import Settings as Lab
from settings.parts import Dns as Settings
from settings.parts import Zone
from settings.platform import ZONE

NAMESPACE = "dns"
ADGUARD = "adguard"
USER = "admin"
OWNER = 1000  # user and group; AdGuard Home needs root for nothing as long as its ports are high
PORT, PAGE = 5353, 3000
HOME = "/opt/adguardhome"
SCHEMA = 34  # of AdGuard Home's file; an older one is migrated, a newer one refused
DATA_GB = 2
ZONE_OWNER = 65532
TTL_S = 60
# The images' programs carry this capability in their files; without it in the set they could not even be started.
CAPABILITIES = ("NET_BIND_SERVICE",)


class Dns(Part):
    """AdGuard Home at a fixed address, its page at adguard.<domain>; all names come from the settings.

    What the page changes is kept until the next change of the settings, which are written over it.
    """

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("dns", site)
        self._settings = settings
        namespace = self.namespace(NAMESPACE)
        volume = claim(ADGUARD, NAMESPACE, DATA_GB, storage.nfs_class(site.lab))
        data = self.object("volume", volume, [namespace])
        password = self.password()
        self.logins["adguard-password"] = password.result
        text = password.bcrypt_hash.apply(lambda digest: config(site.lab, settings, digest))
        seed = self.object("seed", secret("seed", NAMESPACE, {"AdGuardHome.yaml": text}), [namespace])
        # Of a salted hash and of names that everybody in the house may ask for: it gives nothing away.
        mark = pulumi.Output.unsecret(text.apply(checksum))
        pods = self.object("deployment", adguard(settings, mark), [data, seed])
        self.object("service", self._front(ADGUARD, "dns"), [namespace])
        policy(self, NAMESPACE, ADGUARD, [Door(_PAGE, TRAEFIK), *map(Door, _DNS)], [namespace])
        page = self.object("page", service("page", NAMESPACE, [_PAGE], app=ADGUARD), [namespace])
        ingress(self, site.lab.platform.host("dns"), NAMESPACE, "page", HTTP_PORT, depends_on=[page, pods])
        if settings.zone is not None:
            self._zone(settings.zone, namespace)
        self.register_outputs({})

    def _zone(self, zone: Zone, namespace: pulumi.Resource) -> None:
        text = corefile(zone, address_of(self.site.lab, zone.answer), self._settings)
        named = {"name": ZONE, "namespace": NAMESPACE}
        file = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": {"Corefile": text}}
        made = self.object("zone-file", file, [namespace])
        self.object("zone-deployment", zone_server(checksum(text)), [made])
        self.object("zone-service", self._front(ZONE, ZONE), [namespace])
        policy(self, NAMESPACE, ZONE, list(map(Door, _DNS)), [namespace])

    def _front(self, app: str, name: str) -> dict[str, Any]:
        return service(app, NAMESPACE, list(_DNS), lan=True, annotations=addressed(self.site, name))


_DNS = (Port("dns", PORT, 53, "UDP"), Port("dns-tcp", PORT, 53))
_PAGE = Port("http", PAGE, HTTP_PORT)


def records(lab: Lab, extra: Mapping[str, Any]) -> dict[str, str]:
    """Every name that the house can ask for -> its address: nodes, the VIP, every host of the platform, and `extra`.

    Raises:
        UserError: hosts have no address that stays, because Traefik has none.
    """
    domain = lab.platform.domain
    names = {f"{node.name}.{domain}": str(node.address) for node in lab.enabled_nodes}
    names[lab.cluster.endpoint.dns or f"k8s-api.{domain}"] = str(lab.cluster.endpoint.vip)
    if lab.platform.hosts:
        names |= dict.fromkeys(lab.platform.hosts, address_of(lab, "traefik"))
    return dict(sorted((names | {name: str(address) for name, address in extra.items()}).items()))


def address_of(lab: Lab, name: str) -> str:
    """The fixed address of a service.

    Raises:
        UserError: it has none, so DNS would have nothing that stays to answer.
    """
    address = lab.platform.address(name)
    if address is None:
        raise UserError(
            f"platform.addresses.{name}: is missing, and DNS answers with it; give {name} an address of platform.pools"
        )
    return str(address)


def config(lab: Lab, settings: Settings, digest: str) -> str:
    """AdGuard Home's own file.

    Args:
        lab: whose names are answered.
        settings: of the part.
        digest: bcrypt of the password.
    """
    upstreams = [str(server) for server in settings.upstreams]
    # Without `enabled` a rewrite is loaded as switched off, and nothing says so.
    rewrites = [{"domain": n, "answer": a, "enabled": True} for n, a in records(lab, settings.records).items()]
    content = {
        "http": {"address": f"0.0.0.0:{PAGE}"},
        "users": [{"name": USER, "password": digest}],
        "dns": {
            "bind_hosts": ["0.0.0.0"],  # noqa: S104  # inside of the pod
            "port": PORT,
            "upstream_dns": upstreams,
            "bootstrap_dns": list(upstreams),
            # Behind some routers all of the house is one client, which twenty questions a second would not do for.
            "ratelimit": 0,
        },
        "filtering": {"rewrites_enabled": True, "rewrites": rewrites},
        "schema_version": SCHEMA,
    }
    return yaml.safe_dump(content, sort_keys=False)


def adguard(settings: Settings, mark: Any) -> dict[str, Any]:
    """The Deployment. Its file is written anew at each start: AdGuard changes it, so it cannot be mounted as it is."""
    repository, _, tag = IMAGES["adguard"].rpartition(":")
    image = f"{repository}:{settings.version or tag}"
    volumes = [
        {"name": "data", "persistentVolumeClaim": {"claimName": ADGUARD}},
        {"name": "seed", "secret": {"secretName": "seed"}},
    ]
    return deployment(
        ADGUARD,
        NAMESPACE,
        [_server(image)],
        user=OWNER,
        never_two=True,
        init=[_seed(image)],
        volumes=volumes,
        annotations={CHECKSUM: mark},
    )


def _seed(image: str) -> Container:
    return Container(
        name="seed",
        image=image,
        requests={"cpu": "10m", "memory": "16Mi"},
        command=["cp", "/seed/AdGuardHome.yaml", f"{HOME}/conf/AdGuardHome.yaml"],
        mounts={"/seed": "seed", f"{HOME}/conf": "data/conf"},
    )


def _server(image: str) -> Container:
    return Container(
        name=ADGUARD,
        image=image,
        requests={"cpu": "100m", "memory": "128Mi"},
        ports=[*_DNS, _PAGE],
        probe=PORT,
        args=[
            "--no-check-update",
            "--no-permcheck",  # it cannot change modes on NFS
            *("-c", f"{HOME}/conf/AdGuardHome.yaml"),
            *("-w", f"{HOME}/work"),
        ],
        mounts={f"{HOME}/conf": "data/conf", f"{HOME}/work": "data/work"},
        capabilities=CAPABILITIES,
    )


def corefile(zone: Zone, answer: str, settings: Settings) -> str:
    """CoreDNS' file: every name of the zone has one address, whatever else is asked has none; the rest goes on."""
    upstreams = " ".join(str(server) for server in settings.upstreams)
    return f"""\
{zone.name}:{PORT} {{
    template IN A {{
        answer "{{{{ .Name }}}} {TTL_S} IN A {answer}"
    }}
    template ANY ANY {{
        rcode NOERROR
    }}
}}
.:{PORT} {{
    forward . {upstreams}
    cache
    errors
}}
"""


def zone_server(mark: str) -> dict[str, Any]:
    """The Deployment of the zone's server: CoreDNS, which keeps nothing and may run beside its successor."""
    server = Container(
        name="coredns",
        image=IMAGES["coredns"],
        requests={"cpu": "25m", "memory": "32Mi"},
        ports=_DNS,
        probe=PORT,
        args=["-conf", "/etc/coredns/Corefile"],
        mounts={"/etc/coredns": "file"},
        capabilities=CAPABILITIES,
    )
    volumes = [{"name": "file", "configMap": {"name": ZONE}}]
    return deployment(ZONE, NAMESPACE, [server], user=ZONE_OWNER, volumes=volumes, annotations={CHECKSUM: mark})
