"""A talosconfig for a program in the cluster: a role of its own, and each control plane by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, UpdateResult

from providers.dynamic import Props, Provider, changed_keys, packed
from providers.errors import HomelabError
from providers.talos import documents
from providers.talos.pki import CertAndKey, days_left, new_client
from providers.talos.secrets import b64, read_talosconfig

RENEW_BELOW_DAYS = 30


def contexts(control_planes: Mapping[str, str], authority: CertAndKey, role: str) -> str:
    """One context for each control plane, called "0", "1" and so on in the order of their names.

    talosctl asks one node when it takes a snapshot, and takes no list to choose from: whoever calls it goes through
    the contexts until one answers.
    """
    cert = new_client(authority, [role])
    keys = {"ca": b64(cert.ca), "crt": b64(cert.crt), "key": b64(cert.key)}
    addresses = [control_planes[name] for name in sorted(control_planes)]
    listed = {str(n): {"endpoints": [address], "nodes": [address], **keys} for n, address in enumerate(addresses)}
    return documents.dump([{"context": "0", "contexts": listed}])


class AccessProvider(Provider):
    """Issues the certificate, and issues it anew before it expires."""

    inputs = ("cluster", "control_planes", "role", "os_ca")

    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Besides changed inputs: a certificate that is about to expire."""
        return DiffResult(changes=bool(changed_keys(olds, news, self.inputs)) or _expiring(olds))

    def create(self, props: Props) -> CreateResult:
        """Issue it."""
        return CreateResult(f"{props['cluster']}-{props['role']}", self.stored(props, talosconfig=_issued(props)))

    def update(self, _id: str, _olds: Props, news: Props) -> UpdateResult:
        """Issue it anew."""
        return UpdateResult(self.stored(news, talosconfig=_issued(news)))


def _issued(props: Props) -> str:
    return contexts(props["control_planes"], CertAndKey(**props["os_ca"]), props["role"])


def _expiring(olds: Props) -> bool:
    try:
        return days_left(read_talosconfig(olds["talosconfig"]).crt) < RENEW_BELOW_DAYS
    except (HomelabError, KeyError, ValueError):
        return True


class Access(Resource, module="talos", name="Access"):
    """A talosconfig with one role: `talosconfig`, a secret."""

    talosconfig: pulumi.Output[str]

    def __init__(self, name: str, props: dict[str, Any], opts: pulumi.ResourceOptions | None = None) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["talosconfig"])
        super().__init__(
            AccessProvider(),
            name,
            {**packed(props), "talosconfig": None},
            pulumi.ResourceOptions.merge(secret, opts),
        )
