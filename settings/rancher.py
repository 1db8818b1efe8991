"""The Rancher server that a cluster is registered with."""

from . import kinds
from .part import Part, key


class Rancher(Part):
    """Registers the cluster with a Rancher server; removing this takes it out there again."""

    url: kinds.Url = key("The Rancher server.", "https://rancher.home.arpa")
    token: kinds.Secret | None = key(
        "Bearer token of one of its users, as a Pulumi secret.", default=None, unit="secret"
    )
    name: kinds.Name | None = key("What it is called there.", default=None, derived="the cluster's name")
    description: str = key("What Rancher says of it.", default="")
    ca: str | None = key(
        "CA of its certificate, where that is not from one that this machine trusts.", default=None, unit="PEM"
    )
