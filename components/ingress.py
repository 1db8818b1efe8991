"""How a web page of the platform gets its name: one Ingress of the class `traefik`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from components.manifest import Manifest
from components.part import Part


def ingress(
    part: Part,
    host: str | None,
    namespace: str,
    service: str,
    port: int | str,
    *,
    depends_on: Sequence[pulumi.Resource] = (),
    annotations: Mapping[str, str] | None = None,
) -> Manifest | None:
    """`https://<host>/` shows a service of the part; the certificate is Traefik's own.

    Args:
        part: whose page it is; the Ingress is called like it.
        host: as `Platform.host` gives it; None (there is no Traefik) makes no Ingress.
        namespace: of the service.
        service: its name.
        port: of the service, by number or name.
        depends_on: the service, or its chart.
        annotations: such as Traefik's middlewares.
    """
    if host is None:
        return None
    backend = {"service": {"name": service, "port": {"name" if isinstance(port, str) else "number": port}}}
    metadata = {"name": part.name, "namespace": namespace, **({"annotations": annotations} if annotations else {})}
    manifest = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata,
        "spec": {
            "ingressClassName": "traefik",
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    }
    return part.object("ingress", manifest, depends_on)
