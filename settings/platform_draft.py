"""What of the platform's section is well-formed: each part and application stands or falls on its own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from . import kinds, parts, ranges
from .applications import Application
from .platform import PARTS, Platform
from .wellformed import read

_MODELS: dict[str, type[Any]] = {
    "cilium": parts.Cilium,
    "kamaji": parts.Kamaji,
    "metallb": parts.MetalLB,
    "metrics_server": parts.MetricsServer,
    "cert_manager": parts.CertManager,
    "traefik": parts.Traefik,
    "longhorn": parts.Longhorn,
    "nfs": parts.Nfs,
    "dns": parts.Dns,
    "monitoring": parts.Monitoring,
    "headlamp": parts.Headlamp,
    "etcd_backup": parts.EtcdBackup,
}


@dataclass(frozen=True)
class PlatformDraft:
    """The well-formed values of the platform.

    Attributes:
        known: the platform without its malformed parts and applications.
        pools: in the file's order; None is malformed.
        addresses: of services; None is malformed.
        applications: names of all applications, malformed ones too.
        declared: names of the parts and applications that the file has, on or off, malformed or not.
        on: those of them that aren't turned off.
    """

    known: Platform
    pools: tuple[ranges.AddressRange | None, ...]
    addresses: dict[str, IPv4Address | None]
    applications: tuple[str, ...]
    declared: tuple[str, ...]
    on: frozenset[str]

    def holds(self, address: IPv4Address | None) -> bool:
        """Whether an address is in a pool."""
        return any(pool is not None and address in pool for pool in self.pools)


def platform_draft(section: object) -> PlatformDraft:
    """Reads what can be read of the section `platform`."""
    raw: Mapping[str, Any] = section if isinstance(section, Mapping) else {}
    given = dict(_given(raw))
    return PlatformDraft(
        known=_known(raw),
        pools=tuple(read(ranges.Range, item) for item in _list(raw.get("pools"))),
        addresses={name: read(kinds.Address, item) for name, item in _map(raw.get("addresses")).items()},
        applications=tuple(_map(raw.get("applications"))),
        declared=tuple(given),
        on=frozenset(name for name, item in given.items() if not _is_off(item)),
    )


def _given(raw: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """Every part and application that stands in the file, by its own name."""
    for part in PARTS:
        if (key := part.replace("-", "_")) in raw:
            yield part, raw[key]
    # An application with the name of a part is a mistake of its own, and turns no part on.
    yield from ((name, item) for name, item in _map(raw.get("applications")).items() if name not in PARTS)


def _known(raw: Mapping[str, Any]) -> Platform:
    found = {key: read(model, raw[key]) for key, model in _MODELS.items() if key in raw}
    applications = {name: read(Application, item) for name, item in _map(raw.get("applications")).items()}
    return Platform.model_construct(
        **found,
        domain=read(kinds.DnsName, raw.get("domain", "local")) or "local",
        network_policies=raw.get("network_policies") is True,
        applications={name: item for name, item in applications.items() if item is not None},
    )


def _is_off(item: object) -> bool:
    return isinstance(item, Mapping) and item.get("enabled") is False


def _list(raw: object) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _map(raw: object) -> dict[str, Any]:
    return {key: item for key, item in raw.items() if isinstance(key, str)} if isinstance(raw, Mapping) else {}
