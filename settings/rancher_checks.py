"""What must hold for a registration with Rancher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cryptography.x509 import load_pem_x509_certificates

from .problems import Problem

if TYPE_CHECKING:
    from .draft import Draft


def registrations(draft: Draft) -> Iterator[Problem]:
    """There is a token, and nobody sends it where others can read it."""
    for cluster in draft.further.clusters.values():
        rancher = cluster.rancher
        if rancher is None:
            continue
        where = (*cluster.where, "rancher")
        if rancher.get("token") is None:
            fix = f"type `homelab secret 'clusters.{cluster.name}.rancher.token'`"
            yield Problem((*where, "token"), "is not set", fix)
        if str(rancher.get("url", "")).startswith("http://"):
            yield Problem((*where, "url"), "sends the token where others can read it", "write https://")
        if isinstance(rancher.get("ca"), str) and not _is_pem(rancher["ca"]):
            yield Problem(
                (*where, "ca"), "is not a certificate in PEM", "put in the CA's own file, BEGIN line included"
            )


def _is_pem(text: str) -> bool:
    try:
        return bool(load_pem_x509_certificates(text.encode()))
    except ValueError:
        return False


CHECKS = (registrations,)
"""Every check of registrations."""
