"""A cluster's registration with a Rancher server."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

from components.after import after
from providers.rancher.resources import Registration
from settings import FurtherCluster
from settings.models import plain


def register(
    cluster: FurtherCluster,
    whole: pulumi.Resource,
    kubeconfig: pulumi.Output[str],
    members: Sequence[pulumi.Resource],
    opts: pulumi.ResourceOptions,
) -> Registration | None:
    """Register a cluster once its members are there; None where its settings have no Rancher.

    A registration is taken back also when the whole cluster goes: Rancher is somebody else's, and remembers it.
    """
    rancher = cluster.rancher
    if rancher is None:
        return None
    props = {
        "cluster": cluster.name,
        "name": rancher.name or cluster.name,
        "url": rancher.url,
        "token": pulumi.Output.secret(plain(rancher.token) or ""),
        "ca": rancher.ca or "",
        "description": rancher.description,
        "kubeconfig": kubeconfig,
        "ready": after(True, *members),
    }
    options = pulumi.ResourceOptions(depends_on=[whole])
    return Registration(f"{cluster.name}-rancher", props, pulumi.ResourceOptions.merge(opts, options))
