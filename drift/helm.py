"""What Helm itself remembers of a release: the newest revision, and the objects that it made.

Helm keeps one Secret for each revision, https://helm.sh/docs/topics/advanced/#storage-backends: base64 of gzip of JSON,
and base64 once more because it is a Secret.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from drift.applied import Object, Release
from providers.errors import ProtocolError

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Api(Protocol):
    """The part of a cluster's API that is used here."""

    def look(self, path: str) -> Mapping[str, Any] | None:
        """Any object or list; None when there is no such thing."""


@dataclass(frozen=True)
class Record:
    """The newest revision of a release. `objects` are those of its manifest; hooks are not among them."""

    revision: int
    status: str
    objects: tuple[Object, ...]


def newest(api: Api, release: Release) -> Record | None:
    """The release as Helm has it; None where Helm knows of none.

    Raises:
        ProtocolError: its record can't be read.
    """
    query = f"labelSelector=owner%3Dhelm%2Cname%3D{release.name}"
    found = (api.look(f"/api/v1/namespaces/{release.namespace}/secrets?{query}") or {}).get("items") or ()
    records = [_opened(item) for item in found]
    if not records:
        return None
    last = max(records, key=lambda record: int(record["version"]))
    objects = tuple(_objects(str(last.get("manifest") or ""), release))
    return Record(int(last["version"]), str((last.get("info") or {}).get("status", "")), objects)


def _opened(secret: Mapping[str, Any]) -> Mapping[str, Any]:
    name = secret.get("metadata", {}).get("name", "?")
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        record = json.loads(gzip.decompress(packed))
        int(record["version"])
    except (KeyError, TypeError, ValueError, OSError, EOFError, binascii.Error) as error:
        raise ProtocolError(f"Helm's record {name} can't be read ({type(error).__name__})") from None
    return dict(record)


def _objects(manifest: str, release: Release) -> Iterator[Object]:
    try:
        documents = [found for found in yaml.load_all(manifest, _LOADER) if isinstance(found, dict)]
    except yaml.YAMLError:
        raise ProtocolError(f"the manifest of Helm's release {release.name} is not YAML") from None
    for found in documents:
        metadata = found.get("metadata") or {}
        if "kind" in found and "name" in metadata:
            namespace = str(metadata.get("namespace") or release.namespace)
            yield Object(release.part, str(found["apiVersion"]), str(found["kind"]), namespace, metadata["name"], found)
