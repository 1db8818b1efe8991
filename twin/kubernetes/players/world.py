"""What the players of one cluster see and do: watched objects, writes, and the disks of the machines."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twin.kubernetes.api import Api, ApiError, Object

if TYPE_CHECKING:
    from twin.lab import Lab

log = logging.getLogger("twin")
_GATHER_S = 0.1  # changes come in crowds
_ABSENT_S = 1.0  # between looks for a kind that the cluster doesn't know yet
_RETRY_S = 1.0
Key = tuple[str, str]  # namespace (empty for cluster-wide objects) and name


class NotSeen(Exception):
    """A kind was asked for that has not been listed yet; the player is called again once it has."""


@dataclass(frozen=True)
class Kind:
    """A kind of objects: where it is served and what it is called."""

    group: str  # `/api/v1` or `/apis/GROUP/VERSION`
    plural: str
    name: str

    @property
    def everywhere(self) -> str:
        """The path of all of them."""
        return f"{self.group}/{self.plural}"

    @property
    def version(self) -> str:
        """What its objects have as `apiVersion`."""
        return self.group.split("/", 2)[2]

    def folder(self, namespace: str) -> str:
        """The path of those in a namespace."""
        return f"{self.group}/namespaces/{namespace}/{self.plural}" if namespace else self.everywhere

    def path(self, found: Object) -> str:
        """The path of one object."""
        namespace, name = key(found)
        return f"{self.folder(namespace)}/{name}"


Player = Callable[["World"], Awaitable[None]]


class World:
    """One API server as the players see it. A kind is listed and watched from the first time that one asks for it."""

    def __init__(self, lab: Lab, api: Api) -> None:
        self.lab = lab
        self._api = api
        self._objects: dict[Kind, dict[Key, Object]] = {}
        self._gone: dict[str, None] = {}  # uids that were deleted here, whose last events may still come
        self._asked: list[Kind] = []
        self._changed = asyncio.Event()
        self._wake_at = 0.0
        self._said: set[tuple[str, str]] = set()
        self._begun: dict[str, float] = {}

    async def run(self, players: tuple[Player, ...]) -> None:
        """Let the players play until the API server is gone. Raises ApiError in an ExceptionGroup then."""
        async with asyncio.TaskGroup() as group:
            self._changed.set()
            while True:
                await self._wait()
                for player in players:
                    await self._turn(player)
                while self._asked:
                    group.create_task(self._follow(self._asked.pop()))

    def all(self, kind: Kind) -> list[Object]:
        """Every object of a kind, oldest first. Raises NotSeen."""
        return sorted(self._seen(kind).values(), key=lambda found: (found["metadata"]["creationTimestamp"], key(found)))

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        """One object. Raises NotSeen."""
        return self._seen(kind).get((namespace, name))

    async def create(self, kind: Kind, body: Object) -> Object:
        """Create an object; one that exists already stays as it is. Raises ApiError."""
        body = {"apiVersion": kind.version, "kind": kind.name, **body}
        made = await self._api.create(kind.folder(body["metadata"].get("namespace", "")), body)
        return self._took(kind, made) if made else body

    async def patch(self, kind: Kind, found: Object, body: Object) -> Object:
        """Merge into an object as it was seen. Raises ApiError, with 409 when it has changed since."""
        seen = {"metadata": {"resourceVersion": found["metadata"]["resourceVersion"]}}
        return self._took(kind, await self._api.patch(kind.path(found), {**body, **_merged(seen, body)}))

    async def status(self, kind: Kind, found: Object, status: Object) -> Object:
        """Merge into an object's status, be it a subresource or not. Raises ApiError."""
        path = kind.path(found)
        try:
            return self._took(kind, await self._api.patch(f"{path}/status", {"status": status}))
        except ApiError as error:
            if error.status != 404:
                raise
        return self._took(kind, await self._api.patch(path, {"status": status}))

    async def delete(self, kind: Kind, found: Object) -> None:
        """Delete an object. Raises ApiError."""
        await self._api.delete(kind.path(found))
        if not found["metadata"].get("finalizers"):
            self._gone[found["metadata"]["uid"]] = None
            self._objects.get(kind, {}).pop(key(found), None)

    async def say(self, kind: Kind, found: Object, source: str, reason: str, message: str, *, bad: bool = True) -> None:
        """An Event about an object, once for each message. Raises ApiError."""
        if (found["metadata"]["uid"], message) in self._said:
            return
        self._said.add((found["metadata"]["uid"], message))
        namespace, name = key(found)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        about = {"apiVersion": kind.version, "kind": kind.name, "name": name, "uid": found["metadata"]["uid"]}
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{name[:50]}.", "namespace": namespace or "default"},
            "involvedObject": {**about, "namespace": namespace} if namespace else about,
            "reason": reason,
            "message": message,
            "type": "Warning" if bad else "Normal",
            "source": {"component": source},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._api.create(f"/api/v1/namespaces/{namespace or 'default'}/events", body)

    def wake(self, after_s: float) -> None:
        """Call the players again after so many real seconds at the latest."""
        at = time.monotonic() + after_s
        self._wake_at = min(self._wake_at, at) if self._wake_at else at

    def look(self) -> None:
        """Call the players again now: something has happened that no watched object tells of."""
        self._changed.set()

    def waited(self, what: str, device_s: float) -> bool:
        """Whether so many device seconds have passed since this was first asked; the next time begins anew then."""
        begun = self._begun.setdefault(what, time.monotonic())
        left_s = begun + self.lab.clock.real_s(device_s) - time.monotonic()
        if left_s > 0:
            self.wake(left_s)
            return False
        self.forget(what)
        return True

    def forget(self, what: str) -> None:
        """What was waited for is no longer so."""
        self._begun.pop(what, None)

    def _seen(self, kind: Kind) -> dict[Key, Object]:
        if kind not in self._objects:
            if kind not in self._asked:
                self._asked.append(kind)
            raise NotSeen(kind.plural)
        return self._objects[kind]

    async def _wait(self) -> None:
        left = max(0.0, self._wake_at - time.monotonic()) if self._wake_at else None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), left)
        await asyncio.sleep(_GATHER_S)
        self._changed.clear()
        self._wake_at = 0.0

    async def _turn(self, player: Player) -> None:
        try:
            await player(self)
        except NotSeen:
            return
        except ApiError as error:
            if error.status == 0 or error.status >= 500:
                raise
            log.debug("%s: %s", player.__module__, error)
            self.wake(_RETRY_S)
        except Exception:  # an object that makes no sense to one player must not end the others
            log.exception("%s", player.__module__)
            self.wake(_RETRY_S)

    async def _follow(self, kind: Kind) -> None:
        while True:
            try:
                listed = await self._api.get(kind.everywhere)
            except ApiError as error:
                if error.status not in (404, 429):  # unknown, or just defined
                    raise
                self._replace(kind, [])
                await asyncio.sleep(_ABSENT_S)
                continue
            self._replace(kind, listed["items"])
            version = listed["metadata"]["resourceVersion"]
            path = f"{kind.everywhere}?watch=true&resourceVersion={version}"
            async with aclosing(self._api.watch(path)) as events:
                with suppress(_Stale):
                    async for event in events:
                        self._event(kind, event)

    def _replace(self, kind: Kind, items: list[Object]) -> None:
        known = self._objects.get(kind)
        self._objects[kind] = {key(item): item for item in items}
        if known is None or known != self._objects[kind]:
            self._changed.set()

    def _event(self, kind: Kind, event: Object) -> None:
        if event["type"] == "ERROR":
            raise _Stale
        if event["type"] == "DELETED":
            self._gone.pop(event["object"]["metadata"]["uid"], None)
            known = self._objects[kind].get(key(event["object"]))
            if known and known["metadata"]["uid"] == event["object"]["metadata"]["uid"]:
                del self._objects[kind][key(event["object"])]
        else:
            self._took(kind, event["object"])
        self._changed.set()

    def _took(self, kind: Kind, found: Object) -> Object:
        """Remember an object, unless something newer of it is known."""
        objects, about = self._objects.setdefault(kind, {}), found["metadata"]
        known = objects.get(key(found))
        newer = known is None or int(about["resourceVersion"]) >= int(known["metadata"]["resourceVersion"])
        if newer and about["uid"] not in self._gone:
            objects[key(found)] = found
        return found


class _Stale(Exception):
    """A watch came to its end: list again."""


def key(found: Object) -> Key:
    """Namespace and name."""
    return found["metadata"].get("namespace", ""), found["metadata"]["name"]


def at(found: Object | None, *path: str) -> Any:
    """A value inside an object, None when any step of the way is missing."""
    value: Any = found
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def labelled(found: Object, selector: Object) -> bool:
    """Whether an object's labels fulfil a label selector (or a plain map of labels)."""
    labels = at(found, "metadata", "labels") or {}
    plain = selector.get("matchLabels", {}) if set(selector) <= {"matchLabels", "matchExpressions"} else selector
    return all(labels.get(k) == v for k, v in plain.items()) and all(
        _fulfils(labels, rule) for rule in _rules(selector)
    )


def _rules(selector: Object) -> Iterator[Object]:
    yield from (selector.get("matchExpressions") or []) if isinstance(selector.get("matchExpressions"), list) else []


def _fulfils(labels: dict[str, str], rule: Object) -> bool:
    name, operator, values = rule["key"], rule["operator"], rule.get("values", [])
    if operator in ("Exists", "DoesNotExist"):
        return bool((name in labels) == (operator == "Exists"))
    return bool((labels.get(name) in values) == (operator == "In"))


def _merged(seen: Object, body: Object) -> Object:
    return {"metadata": {**body.get("metadata", {}), **seen["metadata"]}}
