"""The kubelet of a system in RAM: it gets its certificate with a join token, at every boot, and waits for a network."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from twin.hosts.kubelet import Kubelet, Wish
from twin.kubernetes.api import Api, ApiError
from twin.kubernetes.node import Denied, certified, has_network, is_ready, say_ready
from twin.talos.pki import Pair, client_context

if TYPE_CHECKING:
    from twin.hosts.box import Box

_POLL_S = 0.2
_RESTART_S = 10.0  # RestartSec of the kubelet's unit
_SYSTEM = "Debian GNU/Linux 12 (bookworm)"
# What a kubelet may say of itself within Kubernetes' own names (its option --node-labels).
_OWN_LABELS = (
    "beta.kubernetes.io/arch", "beta.kubernetes.io/instance-type", "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone", "kubernetes.io/arch",
    "kubernetes.io/hostname", "kubernetes.io/os", "node.kubernetes.io/instance-type", "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
)  # fmt: skip
_OWN_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


class Stopped(Exception):
    """The kubelet ended with an error; systemd starts it again."""


@dataclass(frozen=True)
class Start:
    """What the kubelet finds when it starts: its flags and the files that they name."""

    name: str
    version: str
    server: str
    ca: bytes
    token: str = field(repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()  # what its pods would ask for names

    @classmethod
    def read(cls, root: Path, hostname: str, version: str) -> Start:
        """Read what the start script has written into a root."""
        flags = _flags((root / "etc/default/kubelet").read_text(encoding="utf-8"))
        config = yaml.safe_load((root / flags["bootstrap-kubeconfig"].lstrip("/")).read_text(encoding="utf-8"))
        own = yaml.safe_load((root / flags["config"].lstrip("/")).read_text(encoding="utf-8"))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        return cls(
            name=flags.get("hostname-override", hostname),
            version=version,
            server=cluster["server"],
            ca=(root / cluster["certificate-authority"].lstrip("/")).read_bytes(),
            token=user["token"],
            labels=dict(text.partition("=")[::2] for text in flags.get("node-labels", "").split(",") if text),
            taints=tuple(text for text in flags.get("register-with-taints", "").split(",") if text),
            dns=tuple(own["clusterDNS"]),
        )


def _flags(text: str) -> dict[str, str]:
    """The words that systemd puts in place of $KUBELET_WORDS."""
    assigned = [line.partition("=")[2] for line in text.splitlines() if line.startswith("KUBELET_WORDS=")]
    words = shlex.split(assigned[-1])[0].split()
    return dict(word.removeprefix("--").partition("=")[::2] for word in words)


async def serve(box: Box, start: Start) -> None:
    """Run the kubelet until the box loses its power; what stops it is in the journal, once for each reason."""
    said = ""
    box.emit("joining", server=start.server, name=start.name, dns=list(start.dns))
    while True:
        try:
            await _run(box, start)
            return
        except Stopped as error:
            if str(error) != said:
                said = str(error)
                box.emit("kubelet_failed", said=said)
            await box.wait(_RESTART_S)


async def _run(box: Box, start: Start) -> None:
    if unknown := sorted(key for key in start.labels if not _may_say(key)):
        raise Stopped(f"unknown 'kubernetes.io' or 'k8s.io' labels specified with --node-labels: {unknown}")
    leaf = await _bootstrapped(box, start)
    wish = Wish(
        start.version, "10.244.0.0/16", start.labels, start.taints, server=start.server, system=_SYSTEM,
        processor="amd64",
    )  # fmt: skip
    kubelet = _Kubelet(box, start, wish, leaf)
    try:
        await kubelet.run()
        await asyncio.Event().wait()
    finally:
        kubelet.kill()


def _may_say(key: str) -> bool:
    space = key.rpartition("/")[0]
    if not any(space == own or space.endswith(f".{own}") for own in ("kubernetes.io", "k8s.io")):
        return True
    return key in _OWN_LABELS or any(space == own or space.endswith(f".{own}") for own in _OWN_PREFIXES)


async def _bootstrapped(box: Box, start: Start) -> Pair:
    """TLS bootstrap. The name in the server's certificate must be the one that was asked for. Raises Stopped."""
    try:
        context = client_context(start.ca)
    except (OSError, ValueError) as error:
        raise Stopped(f"unable to load the cluster's CA: {type(error).__name__}") from None
    try:
        async with Api(start.server, context, start.token) as api:
            return await certified(api, start.name, _POLL_S)
    except ApiError as error:
        raise Stopped(f"cannot create certificate signing request: {error}") from None
    except Denied as error:
        raise Stopped(f"certificate request was not signed: {error}") from None


class _Node:
    """A box under the name that its kubelet was told."""

    def __init__(self, box: Box, name: str) -> None:
        self.lab, self.name, self.address = box.lab, name, box.address
        self.boot_id, self.logs, self.emit = box.boot_id, box.logs, box.emit


class _Kubelet(Kubelet):
    """Under the name that it was told, Ready as soon as a pod here has brought a network."""

    def __init__(self, box: Box, start: Start, wish: Wish, leaf: Pair) -> None:
        super().__init__(_Node(box, start.name), wish, start.ca, leaf, list)

    async def _until_ready(self, api: Api) -> None:
        while not self.ready:
            with contextlib.suppress(ApiError):
                if is_ready(await api.get(f"/api/v1/nodes/{self.host.name}")):
                    self.ready = True
                elif await has_network(api, self.host.name):
                    await say_ready(api, self.host.name)
            await asyncio.sleep(_POLL_S)
