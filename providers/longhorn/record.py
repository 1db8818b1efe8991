"""Helm's own records of a release, when a run that was ended left them in the way (FAILURE-MODES 4d.37).

Helm keeps one Secret for each revision, https://helm.sh/docs/topics/advanced/#storage-backends. A record that is
`pending` says that somebody is at work; when that somebody was killed, nobody ever says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from providers import pace
from providers.deadline import Deadline
from providers.dynamic import lazily

if TYPE_CHECKING:
    from providers.kubernetes import client
else:
    client = lazily("providers.kubernetes.client")

API_S = 60.0
BUSY = frozenset({"pending-install", "pending-upgrade", "pending-rollback", "uninstalling"})


class Api(Protocol):
    """The part of a cluster's API that is used here."""

    def look(self, path: str) -> Mapping[str, Any] | None:
        """Any object or list; None when there is no such thing."""

    def remove(self, path: str, deadline: Deadline) -> bool:
        """Delete an object; False when there was none."""


def unblock(kubeconfig: str, namespace: str, release: str, *, everything: bool) -> list[str]:
    """`clear`, on the cluster of a kubeconfig.

    Raises:
        HomelabError: its API does not answer, or refuses.
    """
    with client.Kube(kubeconfig) as kube:
        return clear(kube, namespace, release, Deadline(pace.limit(API_S)), everything=everything)


def stuck(api: Api, namespace: str, release: str) -> list[str]:
    """The records of work that was never ended."""
    return [name for name, status in _records(api, namespace, release).items() if status in BUSY]


def clear(api: Api, namespace: str, release: str, deadline: Deadline, *, everything: bool) -> list[str]:
    """Take records out of the way, and say which. The objects that they speak of stay.

    Args:
        api: the cluster's.
        namespace: of the release.
        release: its name.
        deadline: for all of it.
        everything: also those of work that was ended well. Without them Helm installs anew and takes over what is
            there, which is right when the engine's state knows of no release.
    """
    records = _records(api, namespace, release)
    names = [name for name, status in records.items() if everything or status in BUSY]
    for name in names:
        api.remove(f"{_secrets(namespace)}/{name}", deadline)
    return names


def _records(api: Api, namespace: str, release: str) -> dict[str, str]:
    query = f"labelSelector=owner%3Dhelm%2Cname%3D{release}"
    found = (api.look(f"{_secrets(namespace)}?{query}") or {}).get("items", ())
    return {item["metadata"]["name"]: str(item["metadata"].get("labels", {}).get("status", "")) for item in found}


def _secrets(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/secrets"
