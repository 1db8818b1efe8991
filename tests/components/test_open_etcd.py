"""What turns users on in the tenants' etcd, at a real one: a tenant's certificate opens its own prefix and no other."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from components.scripts import open_etcd
from tests.ports import free_port
from tests.providers.kubernetes.wire import Authority
from tools import paths

HOST = "127.0.0.1"
pytestmark = pytest.mark.skipif(not (paths.servers_bin() / "etcd").exists(), reason="make tools builds the servers")


@dataclass(frozen=True)
class Server:
    """A running etcd that asks clients for certificates, and a folder of these for each user."""

    url: str
    folder: Path

    def ctl(self, user: str, *words: str) -> subprocess.CompletedProcess[str]:
        """etcd's own client, as a user."""
        keys = self.folder / user
        command = [str(paths.servers_bin() / "etcdctl"), f"--endpoints={self.url}", f"--cacert={keys / 'ca.crt'}"]
        command += [f"--cert={keys / 'tls.crt'}", f"--key={keys / 'tls.key'}", "--command-timeout=5s", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, authority = tmp_path_factory.mktemp("etcd"), Authority("etcd")
    for user in ("server", "root", "tenant_school", "tenant_workshop"):
        (folder / user).mkdir()
        certificate, key = authority.issue(user, addresses=(HOST,) if user == "server" else ())
        for name, text in (("tls.crt", certificate), ("tls.key", key), ("ca.crt", authority.pem)):
            (folder / user / name).write_text(text)
    url, peer, keys = f"https://{HOST}:{free_port()}", f"http://{HOST}:{free_port()}", folder / "server"
    words = [
        f"--data-dir={folder / 'data'}", f"--listen-client-urls={url}", f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        "--client-cert-auth=true", f"--cert-file={keys / 'tls.crt'}", f"--key-file={keys / 'tls.key'}",
        f"--trusted-ca-file={keys / 'ca.crt'}", "--unsafe-no-fsync",
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([paths.servers_bin() / "etcd", *words], stdout=log, stderr=log)
        try:
            server = Server(url, folder)
            end = time.monotonic() + 30
            while server.ctl("root", "endpoint", "health").returncode:
                assert time.monotonic() < end, (folder / "log").read_text()[-2000:]
                time.sleep(0.2)
            yield server
        finally:
            process.kill()
            process.wait()


def test_before_it_anybody_with_a_certificate_reads_everything(etcd: Server) -> None:
    assert etcd.ctl("tenant_workshop", "put", "/tenant_school/x", "1").returncode == 0
    name = x509.load_pem_x509_certificate((etcd.folder / "root" / "tls.crt").read_bytes()).subject
    assert name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value == "root"


def test_it_turns_users_on_and_a_second_time_changes_nothing(etcd: Server) -> None:
    assert open_etcd.open_(etcd.url, etcd.folder / "root") is True
    assert etcd.ctl("root", "auth", "status").stdout.splitlines()[0] == "Authentication Status: true"
    assert open_etcd.open_(etcd.url, etcd.folder / "root") is False
    assert open_etcd.main([etcd.url, str(etcd.folder / "root")]) == 0


def test_afterwards_a_tenant_has_its_own_prefix_and_no_other(etcd: Server) -> None:
    for user in ("tenant_school", "tenant_workshop"):
        for words in (
            ("user", "add", user, "--no-password"),
            ("role", "add", user),
            ("role", "grant-permission", user, "--prefix=true", "readwrite", f"/{user}/"),
            ("user", "grant-role", user, user),
        ):
            assert etcd.ctl("root", *words).returncode == 0
    assert etcd.ctl("tenant_school", "get", "/tenant_school/x").stdout.split() == ["/tenant_school/x", "1"]
    refused = etcd.ctl("tenant_workshop", "get", "/tenant_school/x")
    assert refused.returncode != 0
    assert "permission denied" in refused.stderr


def test_half_of_it_done_before_is_gone_on_with() -> None:
    asked: list[str] = []

    def ask(path: str, _: bytes) -> None:
        asked.append(path)
        if path.endswith("user/add"):
            raise open_etcd.Refused('{"error":"etcdserver: user name already exists"}')

    assert open_etcd.open_("https://127.0.0.1:1", Path(), ask)
    assert asked[-1] == "/v3/auth/enable"


def test_another_no_is_told() -> None:
    def ask(_path: str, _body: bytes) -> None:
        raise open_etcd.Refused("etcdserver: corrupt cluster")

    with pytest.raises(open_etcd.Refused, match="corrupt"):
        open_etcd.open_("https://127.0.0.1:1", Path(), ask)
