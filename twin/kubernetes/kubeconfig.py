"""A kubeconfig, as everybody writes it who gives one out."""

from __future__ import annotations

import base64
import json

from twin.talos.pki import Pair


def kubeconfig(
    server: str, ca: bytes, leaf: Pair, name: str = "default", namespace: str = "default", tls_server_name: str = ""
) -> bytes:
    """A kubeconfig (JSON, which is YAML) with the certificate inside."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}
    if tls_server_name:
        cluster["tls-server-name"] = tls_server_name
    user = {
        "client-certificate-data": base64.b64encode(leaf.crt).decode(),
        "client-key-data": base64.b64encode(leaf.key).decode(),
    }
    context = {"cluster": name, "user": f"admin@{name}", "namespace": namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": f"admin@{name}", "user": user}],
        "contexts": [{"name": f"admin@{name}", "context": context}],
        "current-context": f"admin@{name}",
    }
    return json.dumps(document).encode()
