"""The live Kubernetes objects behind those that were applied, asked for all at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from drift.applied import Object
from drift.helm import Api
from providers.errors import HomelabError, UnreachableError

AT_ONCE = 8


@dataclass(frozen=True)
class Silence:
    """What gave no answer, and why."""

    why: str


Live = Mapping[str, Any] | Silence | None  # None: there is no such object
Answers = tuple[tuple[Object, Live], ...]


def ask(api: Api, objects: Iterable[Object]) -> Answers:
    """Each object with what the cluster has under its name."""
    wanted = tuple(objects)
    asked = _Asked(api)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(asked.learn, sorted({item.api for item in wanted})))
        return tuple(zip(wanted, threads.map(asked.live, wanted), strict=True))


class _Asked:
    """One conversation with an API. Once it is gone, nothing more is asked."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kinds: dict[str, Mapping[str, tuple[str, bool]] | Silence] = {}
        self._gone = threading.Event()

    def learn(self, api: str) -> None:
        """Find out how the kinds of an API version are called in paths, and which are in namespaces."""
        found = self._look(base(api))
        if isinstance(found, Silence):
            self._kinds[api] = found
            return
        listed = (found or {}).get("resources") or ()
        self._kinds[api] = {
            str(item["kind"]): (str(item["name"]), bool(item.get("namespaced")))
            for item in listed
            if "/" not in str(item["name"])  # those are parts of others: `pods/log`
        }

    def live(self, wanted: Object) -> Live:
        """What is there; nothing can be of a kind that nobody knows."""
        kinds = self._kinds[wanted.api]
        if isinstance(kinds, Silence):
            return kinds
        if wanted.kind not in kinds:
            return None
        plural, namespaced = kinds[wanted.kind]
        inside = f"/namespaces/{wanted.namespace or 'default'}" if namespaced else ""
        return self._look(f"{base(wanted.api)}{inside}/{plural}/{wanted.name}")

    def _look(self, path: str) -> Live:
        if self._gone.is_set():
            return Silence("the API went away")
        try:
            return self._api.look(path)
        except UnreachableError as error:
            self._gone.set()
            return Silence(str(error))
        except HomelabError as error:
            return Silence(str(error))


def base(api: str) -> str:
    """Where an API version is served: `v1` is the only one without a group."""
    return f"/apis/{api}" if "/" in api else f"/api/{api}"
