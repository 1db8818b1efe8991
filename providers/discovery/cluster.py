"""An existing Talos cluster, read from its talosconfig: every member's machine config, versions and network card.

Nothing is changed: only reads of the Talos API, each answered by the very node.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address
from typing import Any

from providers.discovery import modules
from providers.errors import HomelabError, UnreachableError, UserError
from providers.talos import documents
from providers.talos.client import Mode, Talos, probe
from providers.talos.pki import ClientCert
from providers.talos.secrets import read_talosconfig

PROBE_S = 3.0
READ_S = 30.0
AT_ONCE = 8
_DERIVED = ("modules.dep",)  # Talos' own index of the other extensions' kernel modules


@dataclass(frozen=True)
class Access:
    """A way into a cluster: whom to ask, and as who."""

    cert: ClientCert = field(repr=False)
    seeds: tuple[str, ...]


@dataclass(frozen=True)
class Member:
    """One node as it runs.

    Attributes:
        name: its host name.
        address: its own address in the LAN, never the VIP.
        network: that address with its prefix length.
        mac: of the network card that has it.
        link: the kernel's name of that card.
        talos: version, `v1.13.9`.
        schematic: what its image was made from; None when it is no factory's.
        extensions: names in the image.
        config: its machine config, secrets included.
    """

    name: str
    address: str
    network: str
    mac: str
    link: str
    talos: str
    schematic: str | None
    extensions: tuple[str, ...]
    config: str = field(repr=False)

    @cached_property
    def main(self) -> dict[str, Any]:
        """The v1alpha1 document of its config."""
        return documents.main(documents.load(self.config))

    @property
    def leads(self) -> bool:
        """Whether it is a control plane."""
        return (self.main.get("machine") or {}).get("type") in ("controlplane", "init")


def access(talosconfig: str, context: str | None = None) -> Access:
    """What a talosconfig opens.

    Raises:
        UserError: it is no talosconfig, has no such context, or names no endpoint.
    """
    cert = read_talosconfig(talosconfig, context)
    config = documents.load(talosconfig)[0]
    entry = config["contexts"][context or config["context"]]
    seeds = [str(address) for key in ("endpoints", "nodes") for address in entry.get(key) or ()]
    if not seeds:
        raise UserError("talosconfig: the context has neither endpoints nor nodes; say `talosctl config endpoint ...`")
    return Access(cert, tuple(dict.fromkeys(seeds)))


def read(way: Access) -> list[Member]:
    """All members, and nobody missing whom etcd counts on.

    Raises:
        UnreachableError: nobody answers, or not all members do: then nobody would know what they run.
        UserError: the certificate is not an administrator's, or etcd has a member that nobody else knows.
        TalosError: etcd can't be asked.
    """
    found = members(way)
    _complete(found, way.cert)
    return found


def members(way: Access) -> list[Member]:
    """The members that Talos knows, control planes first, then by name.

    Raises:
        UnreachableError: nobody answers, or not all members do.
        UserError: the certificate is not an administrator's.
    """
    first = _answering(way)
    with Talos.secure(first, way.cert) as talos:
        peers = [spec for _, spec in talos.listed("cluster", "Members.cluster.talos.dev")]
    # Without Talos' discovery there are no peers to list, and the talosconfig has to name all nodes.
    wanted = [_reachable(spec.get("addresses") or ()) for spec in peers] or list(way.seeds)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(lambda address: _outcome(address, way.cert), wanted))
    silent = [outcome for outcome in outcomes if isinstance(outcome, HomelabError)]
    if silent:
        raise UnreachableError(f"not every member can be read: {'; '.join(map(str, silent))}")
    found = {member.name: member for member in outcomes if isinstance(member, Member)}
    return sorted(found.values(), key=lambda member: (not member.leads, member.name))


def _answering(way: Access) -> str:
    modes = {seed: _mode(seed, way.cert) for seed in way.seeds}
    for seed, mode in modes.items():
        if mode is Mode.OURS:
            return seed
    seen = ", ".join(f"{seed} ({mode.value if mode else 'no Talos'})" for seed, mode in modes.items())
    raise UnreachableError(f"no node of this talosconfig answers to it: {seen}")


def _mode(address: str, cert: ClientCert) -> Mode | None:
    try:
        return probe(address, cert, timeout_s=PROBE_S)
    except HomelabError:
        return None


def _reachable(addresses: Iterable[str]) -> str:
    """The first IPv4 address; it may be the VIP of the node that holds it, and leads to that node as well."""
    return next((address for address in map(str, addresses) if _is_ipv4(address)), "")


def _is_ipv4(text: str) -> bool:
    try:
        IPv4Address(text)
    except ValueError:
        return False
    return True


def _outcome(address: str, cert: ClientCert) -> Member | HomelabError:
    try:
        return _member(address, cert)
    except HomelabError as error:
        return error


def _member(address: str, cert: ClientCert) -> Member:
    with Talos.secure(address, cert) as talos:
        card = modules.card(talos, address)
        version = talos.version(timeout_s=READ_S)
        return Member(
            name=talos.hostname(timeout_s=READ_S),
            address=card.network.partition("/")[0] or address,
            network=card.network,
            mac=card.mac,
            link=card.link,
            talos=version.tag,
            schematic=talos.schematic(timeout_s=READ_S),
            extensions=tuple(name for name in talos.extensions(timeout_s=READ_S) if name not in _DERIVED),
            config=_config(talos),
        )


def _config(talos: Talos) -> str:
    try:
        return talos.machine_config(timeout_s=READ_S)
    except HomelabError as error:
        raise UserError(
            f"{talos.address}: its machine config can't be read ({error}); the talosconfig has to be an "
            f"administrator's (role os:admin)"
        ) from error


def _complete(members: Sequence[Member], cert: ClientCert) -> None:
    """Stop where etcd counts on a node that was not found: it would be missing from the quorum."""
    leader = next((member for member in members if member.leads), None)
    if leader is None:
        raise UserError("no control plane was found; name one in the talosconfig's endpoints")
    with Talos.secure(leader.address, cert) as talos:
        counted = {member.hostname for member in talos.etcd_members(timeout_s=READ_S)}
    unknown = sorted(counted - {member.name for member in members})
    if unknown:
        raise UserError(
            f"etcd has members that were not found: {', '.join(unknown)}; name their addresses in the talosconfig's "
            f"nodes, or remove them if they are gone for good"
        )
