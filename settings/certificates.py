"""Whether the owner's certificate is good and its key belongs to it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates

from .draft import Draft
from .parts import OwnCertificate
from .problems import PLACEHOLDER, Problem, Where

_OWN: Where = ("platform", "traefik", "certificate", "own")
_SOON = timedelta(days=30)


def keys(draft: Draft) -> Iterator[Problem]:
    """The key is one, and the certificate's own. Encrypted ones are only read where they are decrypted."""
    own = _own(draft)
    if own is None or (text := own.key.get_secret_value()) == PLACEHOLDER:
        return
    try:
        public = load_pem_private_key(text.encode(), None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        yield Problem((*_OWN, "key"), "is not a private key in PEM without a passphrase", "store the right one")
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public.public_bytes(*form) != _first(own).public_key().public_bytes(*form):
        yield Problem((*_OWN, "key"), "does not belong to the certificate", "store the certificate's own key")


def dates(draft: Draft) -> Iterator[Problem]:
    """Warns of a certificate that is no longer good, not yet, or not for long."""
    own = _own(draft)
    if own is None:
        return
    certificate, now, where = _first(own), datetime.now(UTC), (*_OWN, "certificate")
    last = certificate.not_valid_after_utc
    if last < now:
        yield Problem(where, f"has expired on {last:%Y-%m-%d}", "put in a new one; browsers refuse it")
    elif last < now + _SOON:
        yield Problem(where, f"expires on {last:%Y-%m-%d}", "put in a new one soon")
    if now < certificate.not_valid_before_utc:
        yield Problem(where, f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}", "browsers refuse it")


def _own(draft: Draft) -> OwnCertificate | None:
    traefik = draft.platform.known.traefik
    return traefik.certificate.own if traefik is not None else None


def _first(own: OwnCertificate) -> Certificate:
    return load_pem_x509_certificates(own.certificate.encode())[0]
