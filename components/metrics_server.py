"""metrics-server: what `kubectl top` and autoscalers ask."""

from __future__ import annotations

from typing import Any

from components.part import Part, Site, requests
from settings.parts import MetricsServer as Settings


class MetricsServer(Part):
    """metrics-server in kube-system, as clusters elsewhere have it."""

    def __init__(self, site: Site, settings: Settings) -> None:
        super().__init__("metrics-server", site, settings)
        self.chart("metrics-server", "kube-system", values())
        self.register_outputs({})


def values() -> dict[str, Any]:
    """Kubelets on Talos show certificates that they signed themselves."""
    return {"args": ["--kubelet-insecure-tls"], "resources": requests("50m", "96Mi")}
