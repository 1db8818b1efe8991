"""One Kubernetes object, written as it stands in YAML.

The engine's types for it are those of `pulumi_kubernetes`; its Python classes are left out, because importing them and
turning every field into a typed one takes longer than a whole preview.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi

OUTPUTS = ("metadata", "status", "data")  # what others read of an object


class Manifest(pulumi.CustomResource):
    """An object of any kind; made, updated and deleted by server-side apply.

    Attributes:
        metadata: as the cluster has it.
        status: the same, or None.
        data: of a ConfigMap, or of a Secret (base64; a Pulumi secret).
    """

    metadata: pulumi.Output[dict[str, Any]]
    status: pulumi.Output[dict[str, Any] | None]
    data: pulumi.Output[dict[str, str] | None]

    def __init__(self, name: str, manifest: Mapping[str, Any], opts: pulumi.ResourceOptions) -> None:
        secret = ["data", "stringData"] if manifest["kind"] == "Secret" else []
        super().__init__(
            token(manifest["apiVersion"], manifest["kind"]),
            name,
            dict.fromkeys(OUTPUTS) | dict(manifest),
            pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(additional_secret_outputs=secret)),
        )


def token(api: str, kind: str) -> str:
    """The engine's type of an object: `v1`, `Secret` is `kubernetes:core/v1:Secret`."""
    return f"kubernetes:{api if '/' in api else f'core/{api}'}:{kind}"
