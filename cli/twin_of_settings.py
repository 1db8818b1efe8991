"""The settings of a real lab as those of its twin: the same nodes, boards and platform, on loopback addresses.

Only the raw file is read, so that no secret is opened. What a twin can't have is left out and noted.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from cli import twin_of_secrets
from providers.errors import UserError
from settings import Settings, secrets
from settings.models import DEFAULT_DISK
from settings.problems import dotted

PREFIX = "homelab:"
NETWORK = 11  # 127.11 is the twin's LAN; the shipped twins have 127.10 and 127.16
FACTORY_PORT = 8080
BOARD_PORT = 8443  # 443 needs root
BOARD_PASSWORD = "opens-this-board"  # noqa: S105  # a simulated board's
LOWEST_PORT = 1024
LONGEST_MASK = 8  # of a LAN: loopback has no more room
_ADDRESS = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
_ELSEWHERE = ("image", "sha256", "installer")  # images of the owner's own: they hold a real system

Where = tuple[str | int, ...]

# Sections that act on machines which a twin of boards doesn't play: copied, they would act on the real ones.
_REAL_ALONE = {
    "cards": "a twin writes no disk of this machine",
    "boot_service": "nothing boots from the network on a twin",
    "pools": "nothing boots from the network on a twin",
    "clusters": "a twin of a lab plays boards and their nodes",
    "hosts": "a twin of a lab plays boards and their nodes",
    "tenants": "their addresses are those of the real LAN",
}


@dataclass
class Translation:
    """One run over a settings file.

    Attributes:
        lan: the real lab's.
        charts: chart -> the version of it that a twin serves.
        network: the LAN is in 127.NETWORK; what a twin has outside of its LAN is in the next one.
        boards: name -> address and port of the simulated board.
        notes: what the twin doesn't have, each in a line.
        ahead: nodes that are one generation further than in the real lab. A twin's modules are blank, so that
            generation 0, which only adopts, means 1 there. Who was ahead once stays so: 0 -> 1 is still seen.
    """

    lan: IPv4Network
    charts: Mapping[str, str]
    network: int = NETWORK
    boards: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    ahead: set[str] = field(default_factory=set)

    @property
    def twin_lan(self) -> IPv4Network:
        """The LAN's stand-in: the same size, so that every host keeps its number.

        Raises:
            UserError: loopback has no room for one of that size.
        """
        if self.lan.prefixlen < LONGEST_MASK:
            raise UserError(f"cluster.network.subnet: {self.lan} is too large for a twin; loopback has room for a /8")
        return IPv4Network((f"127.{self.network}.0.0", self.lan.prefixlen), strict=False)

    @property
    def services(self) -> str:
        """The first three numbers of what is outside of the LAN: the factory, and boards that are elsewhere."""
        return f"127.{self.network + 1}.0"

    @property
    def factory(self) -> str:
        """Where images and charts come from."""
        return f"{self.services}.2"

    @property
    def factory_url(self) -> str:
        """The same as a URL."""
        return f"http://{self.factory}:{FACTORY_PORT}"

    def moved(self, text: str) -> str:
        """A text with every address of the LAN in it moved to the twin's."""

        def move(match: re.Match[str]) -> str:
            try:
                address = IPv4Address(match[0])
            except ValueError:
                return match[0]
            return str(self.address(address)) if address in self.lan else match[0]

        return _ADDRESS.sub(move, text)

    def address(self, real: IPv4Address) -> IPv4Address:
        """Where a host of the LAN is on the twin."""
        return self.twin_lan.network_address + (int(real) - int(self.lan.network_address))

    def leave_out(self, where: Where, why: str) -> None:
        """Note something that the twin doesn't have."""
        self.notes.append(f"{dotted(where)}: {why}")


def translated(
    raw: Mapping[str, Any],
    lab: Settings,
    charts: Mapping[str, str],
    network: int = NETWORK,
    ahead: Iterable[str] = (),
) -> tuple[dict[str, Any], Translation]:
    """The sections of the twin's settings, and how they came to be.

    Args:
        raw: the sections of the real settings as the file has them: `cluster`, `boards`, `nodes`, `platform`.
        lab: the same, read.
        charts: see `Translation`.
        network: the same.
        ahead: nodes that were ahead already.

    Raises:
        UserError: the LAN is larger than loopback.
    """
    run = Translation(lab.cluster.network.subnet, charts, network)
    run.ahead |= {node.name for node in lab.nodes.values() if node.generation == 0 or node.name in set(ahead)}
    made: dict[str, Any] = {key: _without_secrets(run, value, (key,)) for key, value in raw.items()}
    for section, why in _REAL_ALONE.items():
        if made.pop(section, None):
            run.leave_out((section,), why)
    made["cluster"] = _cluster(run, made["cluster"], lab)
    made["boards"] = {name: _board(run, name, lab) for name in lab.boards}
    made["nodes"] = {name: _node(run, made["nodes"][name] or {}, name, lab) for name in lab.nodes}
    made["platform"] = _platform(run, made.get("platform") or {})
    return {key: _texts(value, run.moved) for key, value in made.items()}, run


def _without_secrets(run: Translation, value: Any, where: Where) -> Any:
    """A value with a stand-in, sealed anew, for each encrypted one; none of them is opened."""
    if secrets.is_secure(value):
        stand_in = twin_of_secrets.stand_in(value["secure"])
        if where[-1] == "url":
            stand_in = f"{run.factory_url}/{stand_in[:16].replace('/', '-')}"
        return twin_of_secrets.sealed(stand_in)
    if isinstance(value, Mapping):
        return {key: _without_secrets(run, item, (*where, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(run, item, (*where, index)) for index, item in enumerate(value)]
    return value


def _cluster(run: Translation, section: Mapping[str, Any], lab: Settings) -> dict[str, Any]:
    talos = {**section["talos"], "factory": run.factory_url}
    for key in _ELSEWHERE:
        if (value := talos.pop(key, None)) is not None:
            run.leave_out(("cluster", "talos", key), f"{value}; a twin installs its own image")
    endpoint = {**section["endpoint"]}
    if (dns := endpoint.pop("dns", None)) is not None:
        run.leave_out(("cluster", "endpoint", "dns"), f"{dns}; nobody resolves it on a twin")
    if lab.cluster.endpoint.port < LOWEST_PORT:
        port = endpoint.pop("port")
        run.leave_out(("cluster", "endpoint", "port"), f"{port}; a port below {LOWEST_PORT} needs root, it has 6443")
    network = {**(section.get("network") or {}), "subnet": str(run.twin_lan)}
    return {**section, "talos": talos, "endpoint": endpoint, "network": network}


def _board(run: Translation, name: str, lab: Settings) -> dict[str, Any]:
    board = lab.boards[name]
    host = urlsplit(board.url).hostname or ""
    run.boards[name] = _board_host(run, host)
    if board.fingerprint:
        run.leave_out(("boards", name, "fingerprint"), f"{board.fingerprint}; it has a certificate of its own")
    made = {"address": f"{run.boards[name]}:{BOARD_PORT}", "password": twin_of_secrets.sealed(BOARD_PASSWORD)}
    return made if board.username == "root" else {**made, "username": board.username}


def _board_host(run: Translation, host: str) -> str:
    """Where a board is: at its own number in the LAN, or among those that are elsewhere or have names."""
    try:
        address = IPv4Address(host)
    except ValueError:
        address = None
    if address is not None and address in run.lan:
        return str(run.address(address))
    return f"{run.services}.{60 + len(run.boards)}"


def _node(run: Translation, section: Mapping[str, Any], name: str, lab: Settings) -> dict[str, Any]:
    node = lab.nodes[name]
    made = {**section, "generation": node.generation + (name in run.ahead)}
    if node.install.selector is not None or node.install.disk != DEFAULT_DISK:
        wished = json.dumps(node.install.model_dump(mode="json", exclude_none=True))
        run.leave_out(("nodes", name, "install"), f"{wished}; the simulated module has one disk, {DEFAULT_DISK}")
        made.pop("install", None)
    return made


def _platform(run: Translation, section: Mapping[str, Any]) -> dict[str, Any]:
    made = {key: _part(run, key, value) for key, value in section.items()}
    made["charts"] = {"mirror": f"{run.factory_url}/charts"}
    return made


def _part(run: Translation, name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    made, chart = dict(value), _CHARTS.get(name)
    version = made.get("version")
    if chart is not None and version is not None and run.charts.get(chart) != version:
        made.pop("version")
        run.leave_out(("platform", name, "version"), f"chart {version}; a twin has {run.charts[chart]}")
    if name == "traefik" and (certificate := made.pop("certificate", None)) is not None:
        which = hashlib.sha256(json.dumps(certificate, sort_keys=True).encode()).hexdigest()[:12]
        run.leave_out(("platform", name, "certificate"), f"{which}; its key is a secret, so a home CA makes another")
    return made


_CHARTS = {
    "cilium": "cilium",
    "metallb": "metallb",
    "metrics_server": "metrics-server",
    "cert_manager": "cert-manager",
    "traefik": "traefik",
    "longhorn": "longhorn",
    "nfs": "csi-driver-nfs",
    "monitoring": "kube-prometheus-stack",
    "headlamp": "headlamp",
}


def _texts(value: Any, change: Callable[[str], str]) -> Any:
    """A value with every text in it changed, names of things and sealed secrets aside."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping) and not secrets.is_secure(value):
        return {key: _texts(item, change) for key, item in value.items()}
    return [_texts(item, change) for item in value] if isinstance(value, list) else value


def served(charts: Path) -> dict[str, str]:
    """Chart -> the version that a twin serves, from the folder of its charts."""
    return dict(_served(charts))


def _served(charts: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(charts.glob("*/Chart.yaml")):
        about = yaml.safe_load(file.read_text(encoding="utf-8"))
        yield str(about["name"]), str(about["version"])
