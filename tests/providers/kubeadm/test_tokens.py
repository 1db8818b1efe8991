"""Bootstrap tokens and the certificates' key, by the real kubeadm on a real API: good ones serve, dead ones do not."""

import os
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from providers.errors import ProtocolError, RefusedError
from providers.kubeadm import config, tokens
from providers.kubeadm.host import ADMIN, CA, ca_hash
from providers.kubeadm.wish import Cluster, Node
from providers.ssh.client import Answer, Target
from tests.providers.kubernetes.servers import Cluster as Api

CLUSTER = Cluster("garage", "v1.36.1", "10.0.0.5", 8443, "10.0.0.5")
PLANE, WORKER = (
    Node(name, "10.0.0.12", role, "10.0.0.12") for name, role in (("cp2", "controlplane"), ("w1", "worker"))
)
SECRETS = "/api/v1/namespaces/kube-system/secrets"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class RealKubeadm:
    """A control plane whose files are in a folder, and whose kubeadm is the real one."""

    def __init__(self, program: Path, folder: Path, kubeconfig: str) -> None:
        self.target = Target("cp1", "10.0.0.11", "ssh-ed25519 AAAA", "key")
        self._program, self._folder = program, folder
        self.commands: list[str] = []
        self.write(ADMIN, kubeconfig.encode())
        file = folder / "certs.yaml"
        documents = {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration"}
        documents |= {"certificatesDir": str(self._real("/etc/kubernetes/pki")), "kubernetesVersion": "v1.36.1"}
        file.write_text(yaml.safe_dump(documents))
        self._kubeadm("init", "phase", "certs", "all", "--config", str(file))

    def _real(self, path: str) -> Path:
        return self._folder / path.lstrip("/")

    def _kubeadm(self, *arguments: str) -> Answer:
        done = subprocess.run(
            [self._program, *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, "TZ": "UTC"}
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def run(
        self, command: str, *, stdin: bytes = b"", timeout_s: float = 60, check: bool = True, secret: bool = False
    ) -> Answer:
        self.commands.append(command)
        words = shlex.split(command)
        assert words[0] == "kubeadm"
        words = [str(self._real(word)) if word.startswith("/etc/") else word for word in words[1:]]
        if "upload-certs" in words:
            words += ["--kubeconfig", str(self._real(ADMIN))]
            self._into_folder(Path(words[words.index("--config") + 1]))
        answer = self._kubeadm(*words)
        if check and answer.code:
            raise RefusedError(answer.err)
        return answer

    def _into_folder(self, file: Path) -> None:
        documents = list(yaml.safe_load_all(file.read_text()))
        documents[1]["certificatesDir"] = str(self._real("/etc/kubernetes/pki"))
        file.write_text(yaml.safe_dump_all(documents))

    def read(self, path: str) -> bytes | None:
        return self._real(path).read_bytes() if self._real(path).exists() else None

    def write(self, path: str, data: bytes, mode: int = 0o644) -> bool:
        self._real(path).parent.mkdir(parents=True, exist_ok=True)
        self._real(path).write_bytes(data)
        self._real(path).chmod(mode)
        return True

    def remove(self, path: str) -> None:
        self._real(path).unlink(missing_ok=True)


@pytest.fixture
def plane(kubeadm: Path, tmp_path: Path, api: Api) -> RealKubeadm:
    for item in api.get(SECRETS)["items"]:
        api.end(f"{SECRETS}/{item['metadata']['name']}")
    return RealKubeadm(kubeadm, tmp_path, api.kubeconfig)


def made(api: Api) -> list[str]:
    return [s["metadata"]["name"] for s in api.get(SECRETS)["items"] if s["type"] == "bootstrap.kubernetes.io/token"]


def test_a_token_serves_several_hosts_while_it_lasts(plane: RealKubeadm, api: Api):
    first, second = (tokens.ticket(plane, CLUSTER, WORKER, ["10.0.0.5"]) for _ in range(2))
    assert first == second
    assert made(api) == [f"bootstrap-token-{first.token[:6]}"]
    assert first.certificate_key == ""
    assert first.ca_hash == ca_hash((plane.read(CA) or b"").decode())


def test_a_token_that_ends_too_soon_is_replaced(plane: RealKubeadm, api: Api):
    description = shlex.quote(config.DESCRIPTION)
    plane.run(f"kubeadm token create --kubeconfig {ADMIN} --ttl 600s --description {description}")
    old = made(api)
    found = tokens.ticket(plane, CLUSTER, WORKER, [])
    assert f"bootstrap-token-{found.token[:6]}" not in old
    assert len(made(api)) == 2


def test_a_token_that_was_refused_is_replaced(plane: RealKubeadm):
    first = tokens.ticket(plane, CLUSTER, WORKER, [])
    assert tokens.ticket(plane, CLUSTER, WORKER, [], renew=True).token != first.token


def test_somebody_elses_token_is_not_taken(plane: RealKubeadm, api: Api):
    plane.run(f"kubeadm token create --kubeconfig {ADMIN} --ttl 10h --description theirs")
    theirs = made(api)
    assert f"bootstrap-token-{tokens.ticket(plane, CLUSTER, WORKER, []).token[:6]}" not in theirs


def test_each_control_plane_gets_certificates_under_a_key_of_its_own(plane: RealKubeadm, api: Api):
    one = tokens.ticket(plane, CLUSTER, PLANE, ["10.0.0.5"])
    first = api.get(f"{SECRETS}/kubeadm-certs")["data"]
    other = tokens.ticket(plane, CLUSTER, PLANE, ["10.0.0.5"])
    assert one.certificate_key != other.certificate_key
    assert api.get(f"{SECRETS}/kubeadm-certs")["data"] != first
    assert {"ca.key", "etcd-ca.key", "sa.key", "front-proxy-ca.key"} <= set(first)


def test_certificates_that_have_died_are_there_again(plane: RealKubeadm, api: Api):
    tokens.ticket(plane, CLUSTER, PLANE, [])
    api.end(f"{SECRETS}/kubeadm-certs")  # what the cluster does after two hours
    tokens.ticket(plane, CLUSTER, PLANE, [])
    assert api.get(f"{SECRETS}/kubeadm-certs")["data"]


def test_no_secret_is_an_argument_and_no_file_with_one_stays(plane: RealKubeadm):
    ticket = tokens.ticket(plane, CLUSTER, PLANE, [])
    assert not [c for c in plane.commands if ticket.certificate_key in c or ticket.token in c]
    assert plane.read(tokens.UPLOAD) is None


def token(**changes: object) -> tokens.Token:
    values: dict[str, object] = {
        "token": "abcdef.0123456789abcdef",
        "description": config.DESCRIPTION,
        "usages": ("authentication", "signing"),
        "expires": NOW + timedelta(hours=1),
    }
    return tokens.Token(**{**values, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "serves"),
    [
        ({}, True),
        ({"expires": NOW + tokens.MARGIN}, True),
        ({"expires": NOW + tokens.MARGIN - timedelta(seconds=1)}, False),
        ({"expires": NOW - timedelta(hours=1)}, False),
        ({"expires": None}, False),
        ({"usages": ("authentication",)}, False),
        ({"description": "somebody's"}, False),
    ],
)
def test_which_tokens_serve(changes: dict[str, object], serves: bool):
    assert token(**changes).serves(NOW) is serves


def test_a_tokens_text_is_not_in_its_repr():
    assert "abcdef" not in repr(token())


def test_no_tokens_are_an_empty_list_and_other_words_an_error():
    assert tokens.listing("") == ()
    with pytest.raises(ProtocolError, match="printed no list of tokens"):
        tokens.listing("TOKEN TTL EXPIRES")
