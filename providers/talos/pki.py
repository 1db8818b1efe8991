"""Keys and certificates the way Talos writes them.

Protocol source: `talosctl gen secrets` and https://github.com/siderolabs/crypto. Talos labels Ed25519 keys
`ED25519 PRIVATE KEY` though the content is plain PKCS#8; OpenSSL and cryptography know only `PRIVATE KEY`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from providers.errors import UserError

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
Clock = Callable[[], datetime]

CA_LIFETIME = timedelta(days=3650)
CLIENT_LIFETIME = timedelta(days=365)
# Boards without a battery clock boot with a time that lags; a certificate from "now" would be refused until then.
_BACKDATE = timedelta(minutes=5)

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?")
_TALOS_LABEL = "ED25519 PRIVATE KEY"
_PLAIN_LABEL = "PRIVATE KEY"


def now() -> datetime:
    """The present, with a time zone."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class CertAndKey:
    """A certificate and its private key, both PEM.

    While an authority is being exchanged, `crt` holds several certificates: the first one is the key's and signs, the
    others are accepted besides. So whoever trusts `crt` trusts every node, whichever of them it has come to.
    """

    crt: str
    key: str = field(repr=False)

    @property
    def signing(self) -> str:
        """The certificate that the key belongs to."""
        found = _CERTIFICATE.findall(self.crt)
        return found[0] if len(found) > 1 else self.crt

    @property
    def accepted(self) -> tuple[str, ...]:
        """The certificates that are accepted besides it."""
        return tuple(_CERTIFICATE.findall(self.crt)[1:])

    def accepting(self, *others: str) -> CertAndKey:
        """The same authority, with these certificates and no others accepted besides it."""
        return CertAndKey("".join(_line(pem) for pem in (self.signing, *others)) if others else self.signing, self.key)


@dataclass(frozen=True)
class ClientCert:
    """What a client of a TLS server needs, all PEM: the server's CA, the client's certificate and its key."""

    ca: str
    crt: str
    key: str = field(repr=False)


NOTHING = CertAndKey("", "")


def _line(pem: str) -> str:
    return pem if pem.endswith("\n") else pem + "\n"


def plain_label(pem: str) -> str:
    """The key with the label that OpenSSL knows."""
    return pem.replace(f"-----BEGIN {_TALOS_LABEL}-----", f"-----BEGIN {_PLAIN_LABEL}-----").replace(
        f"-----END {_TALOS_LABEL}-----", f"-----END {_PLAIN_LABEL}-----"
    )


def new_authority(organization: str, algorithm: str, clock: Clock = now) -> CertAndKey:
    """A self-signed CA of ten years.

    Args:
        organization: the subject's O; empty gives the empty subject that Talos' aggregator CA has.
        algorithm: "ed25519" or "ecdsa" (P-256).
        clock: the present, for the validity.
    """
    key = _new_key(algorithm)
    name = _subject(organization=[organization] if organization else [])
    builder = _builder(name, name, key, clock(), CA_LIFETIME)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(sign_certificates=True), critical=True)
    builder = builder.add_extension(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return CertAndKey(_certificate_pem(builder.sign(key, _digest(key))), _key_pem(key))


def new_client(
    authority: CertAndKey,
    organizations: Iterable[str],
    common_name: str = "",
    lifetime: timedelta = CLIENT_LIFETIME,
    clock: Clock = now,
) -> ClientCert:
    """A client certificate, with a key of the same kind as the CA's.

    Args:
        authority: the CA that signs.
        organizations: the subject's O: Talos' roles, or Kubernetes' groups.
        common_name: the subject's CN; Kubernetes' user name. Talos wants none.
        lifetime: how long it is valid.
        clock: the present, for the validity.
    """
    ca, ca_key = load_certificate(authority.crt), load_key(authority.key)
    key = _new_key("ed25519" if isinstance(ca_key, ed25519.Ed25519PrivateKey) else "ecdsa")
    builder = _builder(_subject(organizations, common_name), ca.subject, key, clock(), lifetime)
    builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
    # Talos refuses a client whose extended usage is anything but exactly this.
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
    )
    return ClientCert(authority.crt, _certificate_pem(builder.sign(ca_key, _digest(ca_key))), _key_pem(key))


def new_service_account_key() -> str:
    """The key that signs service account tokens: RSA, PKCS#1 (Talos' choice since 1.7), of kubeadm's size.

    Talos' own tool takes 4096 bits: seconds of computing before anything else of a new cluster can begin, and six
    times the work for each token that a small control plane signs.
    """
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def load_certificate(pem: str) -> x509.Certificate:
    """The first certificate of a PEM text.

    Raises:
        UserError: it is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError as error:
        raise UserError(f"not a PEM certificate: {error}") from None


def load_key(pem: str) -> PrivateKey:
    """A private key as Talos or OpenSSL labels it.

    Raises:
        UserError: it is none, or neither Ed25519 nor elliptic curve.
    """
    try:
        key = load_pem_private_key(plain_label(pem).encode(), password=None)
    except (ValueError, TypeError):
        raise UserError("not a PEM private key") from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise UserError("a private key of an unexpected kind: Talos' are Ed25519 or ECDSA")
    return key


def days_left(pem: str, clock: Clock = now) -> float:
    """Days until the certificate expires; negative afterwards.

    Raises:
        UserError: the text is not a certificate.
    """
    return (load_certificate(pem).not_valid_after_utc - clock()) / timedelta(days=1)


def _new_key(algorithm: str) -> PrivateKey:
    if algorithm == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: PrivateKey) -> str:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return pem.replace(_PLAIN_LABEL, _TALOS_LABEL)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _subject(organization: Iterable[str] = (), common_name: str = "") -> x509.Name:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, value) for value in organization]
    if common_name:
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(names)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, start: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _BACKDATE)
        .not_valid_after(start + lifetime)
    )


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
