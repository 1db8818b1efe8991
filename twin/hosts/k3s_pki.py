"""The authorities of a k3s cluster: made by its first server, given to the others as bootstrap data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from twin.talos.pki import Pair, issue, key_pem, public_pem, write_secret

AUTHORITIES = ("server-ca", "client-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca")
_SERVICE_KEY = "service.key"
RENEW_BELOW = timedelta(days=120)


class Authorities:
    """The folder /var/lib/rancher/k3s/server/tls of a server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def there(self) -> bool:
        """Whether it was made or copied already."""
        return (self.folder / "server-ca.crt").exists()

    def make(self) -> None:
        """New ones."""
        for name in AUTHORITIES:
            self._put(name, _authority(f"k3s-{name.replace('/', '-')}"))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        write_secret(self.folder / _SERVICE_KEY, key_pem(key))

    def copy(self, other: Authorities) -> None:
        """Those of another server."""
        self.take(other.content())

    def content(self) -> dict[str, bytes]:
        """All that servers share: path below the folder -> content."""
        paths = [f"{name}.{end}" for name in AUTHORITIES for end in ("crt", "key")]
        return {path: (self.folder / path).read_bytes() for path in (*paths, _SERVICE_KEY)}

    def take(self, content: Mapping[str, bytes]) -> None:
        """Become what `content` gave elsewhere, or at another time."""
        for name in AUTHORITIES:
            self._put(name, Pair(content[f"{name}.crt"], content[f"{name}.key"]))
        write_secret(self.folder / _SERVICE_KEY, content[_SERVICE_KEY])

    def pair(self, name: str) -> Pair:
        """One of them."""
        return Pair((self.folder / f"{name}.crt").read_bytes(), (self.folder / f"{name}.key").read_bytes())

    def leaf(self, ca: str, name: str, groups: Sequence[str] = (), hosts: Sequence[str] = ()) -> Pair:
        """A certificate for 365 days, for a server where it names hosts, always for a client."""
        return issue(self.pair(ca), name, groups, hosts, server=bool(hosts), client=True)

    def renewed(self, name: str, ca: str, common: str, groups: Sequence[str] = ()) -> Pair:
        """A client's certificate that is kept, and renewed at a start once few days are left, as k3s does it."""
        kept = self.folder / f"{name}.crt"
        if not kept.exists() or not self.lasts(kept.read_bytes(), ca):
            self._put(name, self.leaf(ca, common, groups))
        return self.pair(name)

    def lasts(self, crt: bytes, ca: str) -> bool:
        """Whether a certificate is of this authority, and has more days left than k3s renews at."""
        leaf = x509.load_pem_x509_certificate(crt)
        try:
            leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(self.pair(ca).crt))
        except (ValueError, TypeError, InvalidSignature):
            return False
        return leaf.not_valid_after_utc - datetime.now(UTC) > RENEW_BELOW

    def write(self, name: str, pair: Pair) -> tuple[Path, Path]:
        """A pair as files."""
        self._put(name, pair)
        return self.folder / f"{name}.crt", self.folder / f"{name}.key"

    @property
    def service_key(self) -> Path:
        """What signs service accounts' tokens."""
        return self.folder / _SERVICE_KEY

    def service_public(self) -> Path:
        """Its public half."""
        path = self.folder / "service.pub"
        path.write_bytes(public_pem(self.service_key.read_bytes()))
        return path

    @property
    def digest(self) -> str:
        """What stands after K10 in a token: the SHA-256 of the server's authority, as its file has it."""
        return hashlib.sha256((self.folder / "server-ca.crt").read_bytes()).hexdigest()

    def _put(self, name: str, pair: Pair) -> None:
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{name}.crt").write_bytes(pair.crt)
        write_secret(self.folder / f"{name}.key", pair.key)


def _authority(common: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(True, False, True, False, False, True, False, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    return Pair(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), key_pem(key))
