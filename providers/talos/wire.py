"""How secrets travel in Pulumi properties: packed small, because the engine writes the whole state at every step."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from providers.talos.pki import NOTHING, CertAndKey, ClientCert, new_client
from providers.talos.secrets import SecretsBundle

OPERATION_TTL = timedelta(hours=24)


def pack(bundle: SecretsBundle) -> str:
    """The whole bundle as one short string."""
    return base64.b64encode(zlib.compress(json.dumps(dataclasses.asdict(bundle)).encode(), 9)).decode()


def pack_for_worker(bundle: SecretsBundle) -> str:
    """What a worker's config and its management need, and not the cluster's other keys."""
    return pack(
        dataclasses.replace(
            bundle,
            secretbox_secret="",
            etcd=NOTHING,
            kubernetes=CertAndKey(bundle.kubernetes.crt, ""),
            aggregator=NOTHING,
            service_account_key="",
        )
    )


def unpack(packed: str) -> SecretsBundle:
    """The bundle that `pack` packed."""
    fields: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    whole: dict[str, Any] = {
        key: CertAndKey(**value) if isinstance(value, dict) else value for key, value in fields.items()
    }
    return SecretsBundle(**whole)


def os_authority(packed: str) -> dict[str, str]:
    """The CA of the Talos API alone, from a packed bundle: enough to manage a node."""
    return dataclasses.asdict(unpack(packed).os)


def admin(authority: CertAndKey | Mapping[str, str]) -> ClientCert:
    """A certificate for this run: made when it is needed, so that none can have expired."""
    pair = authority if isinstance(authority, CertAndKey) else CertAndKey(**authority)
    return new_client(pair, ["os:admin"], lifetime=OPERATION_TTL)
