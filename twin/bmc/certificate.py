"""bmcd's certificate: RSA, self-signed, a common name and nothing else, and long expired (facts A2)."""

import datetime as dt
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from twin.disk import write

_KEY_BITS = 2048  # a real one has 4096, which takes seconds to make here and shows nowhere on the wire
_FROM = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)


def create(folder: Path) -> None:
    """Make a new key and certificate in `folder`, as `openssl req -x509` on the BMC does: valid for 30 days."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Turing-Pi self signed")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = builder.not_valid_before(_FROM).not_valid_after(_FROM + dt.timedelta(days=30))
    certificate = built.sign(key, hashes.SHA256())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    write(folder / "key.pem", key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    write(folder / "cert.pem", certificate.public_bytes(pem))


def context(folder: Path) -> ssl.SSLContext:
    """The server's TLS settings (TLS 1.2 and later), with the certificate of `folder`, made if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "cert.pem").exists():
        create(folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return tls
