"""What of the tenants' section is well-formed: each key stands or falls on its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from . import kinds
from .problems import Where
from .tenants import DEFAULT_TENANT_PODS, DEFAULT_TENANT_SERVICES
from .wellformed import read


@dataclass(frozen=True)
class DraftTenant:
    """The well-formed values of one tenant; None is absent or malformed."""

    name: str
    version: str | None
    address: IPv4Address | None
    port: int | None
    pods: IPv4Network | None
    services: IPv4Network | None
    konnectivity: bool

    @property
    def where(self) -> Where:
        """The tenant's place in the file."""
        return ("tenants", self.name)


def tenants_draft(section: object) -> tuple[DraftTenant, ...]:
    """Reads what can be read of the section `tenants`."""
    return tuple(_tenants(section)) if isinstance(section, Mapping) else ()


def _tenants(section: Mapping[Any, Any]) -> Iterator[DraftTenant]:
    for name, item in section.items():
        raw: Mapping[str, Any] = item if isinstance(item, Mapping) else {}
        port = raw.get("port", 6443)
        if isinstance(name, str):
            yield DraftTenant(
                name=name,
                version=read(kinds.Version, raw.get("version")),
                address=read(kinds.Address, raw.get("address")),
                port=port if type(port) is int else None,
                pods=read(kinds.Subnet, raw.get("pod_subnet", DEFAULT_TENANT_PODS)),
                services=read(kinds.Subnet, raw.get("service_subnet", DEFAULT_TENANT_SERVICES)),
                konnectivity=raw.get("konnectivity") is not False,
            )
