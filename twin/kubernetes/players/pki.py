"""Certificates that programs in a cluster make: authorities of webhooks, and what cert-manager issues."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twin.talos.pki import Pair, PrivateKey, key_pem, load_certificate, load_key

_CURVES: Mapping[int, type[ec.EllipticCurve]] = {256: ec.SECP256R1, 384: ec.SECP384R1, 521: ec.SECP521R1}
_USAGES = {"server auth": ExtendedKeyUsageOID.SERVER_AUTH, "client auth": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True)
class Wish:
    """What a certificate shall say. `algorithm` is RSA, ECDSA or Ed25519; `size` its bits, 0 for the usual."""

    common_name: str = ""
    names: tuple[str, ...] = ()  # DNS names and IP addresses
    organizations: tuple[str, ...] = ()
    authority: bool = False
    valid: timedelta = timedelta(days=90)
    algorithm: str = "RSA"
    size: int = 0
    usages: tuple[str, ...] = ()


def issue(wish: Wish, signer: Pair | None = None, key: bytes | None = None) -> Pair:
    """A certificate and its key (a new one unless given), signed by `signer` or by itself. Raises BadPem."""
    own = load_key(key) if key else _key(wish)
    subject = _subject(wish)
    by = load_key(signer.key) if signer else own
    issuer = load_certificate(signer.crt).subject if signer else subject
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + wish.valid)
        .add_extension(x509.BasicConstraints(ca=wish.authority, path_length=None), critical=True)
        .add_extension(_usage(wish), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    extended = [_USAGES[usage] for usage in wish.usages if usage in _USAGES]
    if extended:
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if wish.names:
        names = x509.SubjectAlternativeName([_name(name) for name in wish.names])
        builder = builder.add_extension(names, critical=not wish.common_name)
    digest = None if isinstance(by, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Pair(builder.sign(by, digest).public_bytes(serialization.Encoding.PEM), key_pem(own))


def b64(data: bytes) -> str:
    """Bytes as a Secret and a caBundle hold them."""
    return base64.b64encode(data).decode()


def _key(wish: Wish) -> PrivateKey:
    if wish.algorithm == "Ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if wish.algorithm == "ECDSA":
        return ec.generate_private_key(_CURVES[wish.size or 256]())
    return rsa.generate_private_key(public_exponent=65537, key_size=wish.size or 2048)


def _subject(wish: Wish) -> x509.Name:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in wish.organizations]
    common = [x509.NameAttribute(NameOID.COMMON_NAME, wish.common_name)] if wish.common_name else []
    return x509.Name([*names, *common])


def _usage(wish: Wish) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not wish.authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=wish.authority,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def names(certificate: x509.Certificate) -> list[str]:
    """The DNS names and IP addresses of a certificate."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))]
