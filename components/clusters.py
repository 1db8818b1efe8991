"""The clusters beside that of Talos: each kind is a module of its own, with a `build` that gives its kubeconfig."""

from __future__ import annotations

import importlib

import pulumi

from settings import Settings


def clusters(lab: Settings) -> dict[str, pulumi.Output[str]]:
    """All of them; name -> kubeconfig, secret."""
    return {
        name: importlib.import_module(f"components.{cluster.distribution}").build(cluster, lab)
        for name, cluster in lab.clusters.items()
    }
