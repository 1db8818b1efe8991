"""Where an API server's calls into the cluster end: to Services of webhooks and aggregated APIs.

A pod's address leads nowhere here, so the API server is told to dial such addresses through this proxy (its
`EgressSelectorConfiguration`, HTTP CONNECT). It plays the Metrics API; who dials anything else is refused at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from aiohttp import web

from twin.kubernetes.api import Api, ApiError, Object
from twin.kubernetes.players.pki import Wish, issue
from twin.talos.pki import server_context

if TYPE_CHECKING:
    from twin.talos.os import Os

_METRICS_PORT = 8132
_GROUP = "/apis/metrics.k8s.io/v1beta1"
_KINDS = {"nodes": ("NodeMetrics", False), "pods": ("PodMetrics", True)}
_USAGE = {"cpu": "250m", "memory": "1Gi"}  # of every node, always
_REFUSED = b"HTTP/1.1 502 connection refused\r\nContent-Length: 0\r\n\r\n"
_ACCEPTED = b"HTTP/1.1 200 connection established\r\n\r\n"


class Door:
    """The proxy of one control plane, with the programs behind it; `admin` makes a client of its API server."""

    def __init__(self, system: Os, admin: Callable[[], Api]) -> None:
        self._system = system
        self._admin = admin
        self._server: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def config(self, path: Path) -> Path:
        """Write the API server's configuration for it."""
        transport = {"uds": {"udsName": f"@{self._name}"}}  # over TCP the API server wants TLS, and panics without
        connection = {"proxyProtocol": "HTTPConnect", "transport": transport}
        document = {
            "apiVersion": "apiserver.k8s.io/v1beta1",
            "kind": "EgressSelectorConfiguration",
            "egressSelections": [{"name": "cluster", "connection": connection}],
        }
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    @property
    def _name(self) -> str:
        """An abstract socket: a path would be too long in a deep state folder."""
        return f"homelab-twin-{self._system.address}"

    async def open(self) -> None:
        """Listen. Raises OSError."""
        self._server = await asyncio.start_unix_server(self._accept, f"\0{self._name}")
        app = web.Application()
        app.router.add_get(_GROUP, self._discovery)
        app.router.add_get(f"{_GROUP}/{{kind:nodes|pods}}", self._list)
        app.router.add_get(f"{_GROUP}/namespaces/{{namespace}}/{{kind:pods}}", self._list)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        context = server_context(issue(Wish("metrics-server", algorithm="ECDSA", valid=timedelta(days=365))), None)
        context.set_alpn_protocols(["http/1.1"])
        await web.TCPSite(self._runner, self._system.address, _METRICS_PORT, ssl_context=context).start()

    def close(self) -> None:
        """Cut everything at once."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._runner is not None:
            self._system.lab.spawn(self._runner.cleanup(), "metrics")

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(
            OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError
        ):
            await self._connect(reader, writer)
        writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        if not await self._metrics(asked.rpartition(":")[0]):
            writer.write(_REFUSED)
            await writer.drain()
            return
        inner, outer = await asyncio.open_connection(self._system.address, _METRICS_PORT)
        try:
            writer.write(_ACCEPTED)
            pumps = [asyncio.create_task(_pump(*ends)) for ends in ((reader, outer), (inner, writer))]
            await _first(pumps)
        finally:
            outer.transport.abort()

    async def _metrics(self, address: str) -> bool:
        """Whether an address is the Service of metrics-server."""
        async with self._admin() as api:
            with contextlib.suppress(ApiError):
                services = (await api.get("/api/v1/services"))["items"]
                named = [found for found in services if found["metadata"]["name"] == "metrics-server"]
                return any(found["spec"].get("clusterIP") == address for found in named)
        return False

    async def _discovery(self, request: web.Request) -> web.Response:
        resources = [
            {"name": plural, "singularName": "", "namespaced": inside, "kind": kind, "verbs": ["get", "list"]}
            for plural, (kind, inside) in _KINDS.items()
        ]
        body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1"}
        return web.json_response({**body, "resources": resources})

    async def _list(self, request: web.Request) -> web.Response:
        kind = _KINDS[request.match_info["kind"]][0]
        items = await self._nodes() if kind == "NodeMetrics" else []
        body = {"kind": f"{kind}List", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {}}
        return web.json_response({**body, "items": items})

    async def _nodes(self) -> list[Object]:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        async with self._admin() as api:
            names = [node["metadata"]["name"] for node in (await api.get("/api/v1/nodes"))["items"]]
        return [{"metadata": {"name": n}, "timestamp": now, "window": "15s", "usage": _USAGE} for n in names]


async def _first(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for the first of some tasks to end, and end the others."""
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(1 << 16):
        writer.write(chunk)
        await writer.drain()
