"""Certificates as Talos makes them on a node: Ed25519 for its API, ECDSA for etcd and Kubernetes (facts B1, B6)."""

import base64
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_TALOS_LABEL = b"ED25519 PRIVATE KEY"
_DAY = timedelta(days=1)


class BadPem(ValueError):
    """A certificate or key of a machine config can't be read."""


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, both PEM."""

    crt: bytes
    key: bytes


def decode(value: object) -> bytes:
    """The PEM of a config value (base64). Raises BadPem."""
    try:
        return base64.b64decode(str(value or ""), validate=True)
    except ValueError as error:
        raise BadPem(str(error)) from None


@lru_cache(maxsize=64)
def load_key(pem: bytes) -> PrivateKey:
    """A private key, also under the label that Talos gives Ed25519 keys (the DER inside is plain PKCS#8)."""
    try:
        key = serialization.load_pem_private_key(pem.replace(_TALOS_LABEL, b"PRIVATE KEY"), None)
    except (ValueError, TypeError) as error:
        raise BadPem(str(error)) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadPem("unsupported key type")
    return key


@lru_cache(maxsize=64)
def load_certificate(pem: bytes) -> x509.Certificate:
    """A certificate. Raises BadPem."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise BadPem(str(error)) from None


def key_pem(key: PrivateKey) -> bytes:
    """A key as plain PKCS#8, which every TLS library reads."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def talos_key_pem(pem: bytes) -> bytes:
    """The same Ed25519 key under Talos' own label."""
    return pem.replace(b"PRIVATE KEY", _TALOS_LABEL)


def public_pem(pem: bytes) -> bytes:
    """The public half of a private key."""
    return (
        load_key(pem)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def authority(organization: str) -> Pair:
    """A new Ed25519 authority, as a node in maintenance mode makes one at each boot."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = _name("", (organization,))
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    builder = _builder(name, name, key, timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).add_extension(usage, True)
    return Pair(builder.sign(key, None).public_bytes(serialization.Encoding.PEM), key_pem(key))


def issue(
    ca: Pair,
    name: str = "",
    organizations: Sequence[str] = (),
    hosts: Sequence[str] = (),
    *,
    server: bool = False,
    client: bool = False,
    valid: timedelta = 365 * _DAY,
) -> Pair:
    """A leaf of `ca`: an Ed25519 key under an Ed25519 authority, else ECDSA P-256. Raises BadPem."""
    signer, parent = load_key(ca.key), load_certificate(ca.crt)
    key: PrivateKey = (
        ed25519.Ed25519PrivateKey.generate()
        if isinstance(signer, ed25519.Ed25519PrivateKey)
        else ec.generate_private_key(ec.SECP256R1())
    )
    builder = _builder(_name(name, organizations), parent.subject, key, valid)
    builder = builder.add_extension(_key_usage(), True).add_extension(_extended(server, client), False)
    builder = builder.add_extension(_issuer_identifier(parent), critical=False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_san(host) for host in hosts]), False)
    digest = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return Pair(builder.sign(signer, digest).public_bytes(serialization.Encoding.PEM), key_pem(key))


def signing_request(name: str, organization: str) -> tuple[bytes, bytes]:
    """A certificate request and its key, as a kubelet makes them."""
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(name, (organization,)))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), key_pem(key)


def is_issued_by(leaf: bytes, authorities: bytes) -> bool:
    """Whether a certificate was signed by one of the authorities (PEM, any number)."""
    try:
        found = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        return False
    return any(_signed(load_certificate(leaf), authority) for authority in found)


def _signed(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def includes(authorities: bytes, one: bytes) -> bool:
    """Whether a certificate is among the authorities (PEM, any number)."""
    try:
        return load_certificate(one) in x509.load_pem_x509_certificates(authorities)
    except ValueError:  # BadPem is one
        return False


def server_context(leaf: Pair, client_ca: bytes | None) -> ssl.SSLContext:
    """TLS for a gRPC server; with `client_ca` a client must show a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    _load_leaf(context, leaf)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=client_ca.decode())
    return context


def client_context(ca: bytes, leaf: Pair | None = None, *, http2: bool = False) -> ssl.SSLContext:
    """TLS for a client that trusts `ca` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.decode())
    if http2:
        context.set_alpn_protocols(["h2"])
    if leaf is not None:
        _load_leaf(context, leaf)
    return context


def write_secret(path: Path, data: bytes) -> Path:
    """A file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path


def _load_leaf(context: ssl.SSLContext, leaf: Pair) -> None:
    with tempfile.NamedTemporaryFile() as file:  # the standard library reads certificates from files only
        file.write(leaf.crt + leaf.key)
        file.flush()
        context.load_cert_chain(file.name)


def _builder(subject: x509.Name, issuer: x509.Name, key: PrivateKey, valid: timedelta) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + valid)
    )


def _issuer_identifier(parent: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """The authority's own identifier: newer Go makes it another way than Python would from the key."""
    try:
        own = parent.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(parent.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _name(common: str, organizations: Sequence[str]) -> x509.Name:
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, name) for name in organizations]
    if common:
        names.append(x509.NameAttribute(NameOID.COMMON_NAME, common))
    return x509.Name(names)


def _san(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(True, False, True, False, False, False, False, False, False)


def _extended(server: bool, client: bool) -> x509.ExtendedKeyUsage:
    wanted = [ExtendedKeyUsageOID.SERVER_AUTH] * server + [ExtendedKeyUsageOID.CLIENT_AUTH] * client
    return x509.ExtendedKeyUsage(wanted)
