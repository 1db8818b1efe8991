"""A few calls to a kube-apiserver, as the system's own parts make them."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Any, Self

import aiohttp

Object = dict[str, Any]
_FOREVER = aiohttp.ClientTimeout(total=None, sock_connect=10)


class ApiError(Exception):
    """The API server refused or didn't answer; `status` is 0 when it didn't."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """One API server; a context manager. Authenticates by the context's certificate or by a bearer token."""

    def __init__(self, url: str, context: ssl.SSLContext, token: str = "", server_name: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._url = url
        self._context = context
        self._server_name = server_name
        self._session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str) -> Object:
        """Read. Raises ApiError."""
        return await self._call("GET", path)

    async def create(self, path: str, body: Object) -> Object:
        """Create; an object that exists already is fine. Raises ApiError."""
        try:
            return await self._call("POST", path, body)
        except ApiError as error:
            if error.status == 409:
                return {}
            raise

    async def patch(self, path: str, body: Object | list[Any], kind: str = "merge-patch") -> Object:
        """Patch. Raises ApiError."""
        return await self._call("PATCH", path, body, f"application/{kind}+json")

    async def delete(self, path: str) -> None:
        """Delete; an object that is gone is fine. Raises ApiError."""
        try:
            await self._call("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise

    async def evict(self, namespace: str, pod: str) -> None:
        """Ask for an eviction, which a disruption budget may refuse. Raises ApiError."""
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        await self._call("POST", f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction", body)

    async def watch(self, path: str) -> AsyncGenerator[Object, None]:
        """The events of a watch until the server ends it. Raises ApiError."""
        try:
            async with self._session.get(
                self._url + path, ssl=self._context, server_hostname=self._server_name, timeout=_FOREVER
            ) as reply:
                if reply.status >= 400:
                    raise ApiError(reply.status, reply.reason or "")
                rest = b""
                async for chunk in reply.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield json.loads(line)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(0, f"{type(error).__name__}: {error}") from None

    async def ready(self) -> bool:
        """Whether the server says that it is ready."""
        try:
            async with self._session.get(
                f"{self._url}/readyz", ssl=self._context, server_hostname=self._server_name
            ) as reply:
                return reply.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _call(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> Object:
        headers = {"Content-Type": kind} if body is not None else {}
        try:
            async with self._session.request(
                method,
                self._url + path,
                json=body,
                headers=headers,
                ssl=self._context,
                server_hostname=self._server_name,
            ) as reply:
                text = await reply.text()
                if reply.status >= 400:
                    raise ApiError(reply.status, _reason(text))
                answer: Object = json.loads(text)
                return answer
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ApiError(0, f"{type(error).__name__}: {error}") from None


def _reason(text: str) -> str:
    """The message of a Status; a path that is not served at all is answered in plain text."""
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.strip()
