"""Certificates for people: what is asked of the cluster, what it may answer, and a real API server's word on both."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from typer.testing import CliRunner

from cli import credentials
from cli import kubeconfig as verb
from cli.main import app
from cli.observe import Lab
from providers.deadline import Deadline
from providers.errors import DeadlineError, ProtocolError, RefusedError, UserError
from providers.kubernetes import people
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access
from tests.cli.lab import lab as without_cluster
from tests.providers.kubernetes.servers import Cluster
from tests.providers.kubernetes.wire import HOST, Authority, kubeconfig

Object = dict[str, Any]
MONTH = timedelta(days=30)


class Api:
    """What an API server keeps of these objects; `signs` plays the controller that signs what was approved."""

    def __init__(self, signs: Callable[[Object], Object]) -> None:
        self.objects: dict[str, Object] = {}
        self.deleted: dict[str, Object] = {}
        self._signs = signs

    def get(self, path: str) -> Object | None:
        return self.objects.get(path)

    def patch(self, path: str, body: Object) -> Object:
        if path.endswith("/approval"):
            found = self.objects[path.removesuffix("/approval")]
            found["status"] = {**body["status"], **self._signs(found)}
            return found
        self.objects[path.partition("?")[0]] = body
        return body

    def delete(self, path: str) -> Object:
        self.deleted[path] = self.objects.pop(path)
        return self.deleted[path]


@contextmanager
def serving(api: Api) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def give(self, found: Object | None) -> None:
            missing = {"kind": "Status", "message": "not found", "code": 404}
            payload = json.dumps(missing if found is None else found).encode()
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def do_GET(self) -> None:
            self.give(api.get(self.path))

        def do_PATCH(self) -> None:
            self.give(api.patch(self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def do_DELETE(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.give(api.delete(self.path))

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def signed(authority: Authority) -> Callable[[Object], Object]:
    def sign(found: Object) -> Object:
        pem, _ = authority.issue("anna", "viewers")
        return {"certificate": base64.b64encode(pem.encode()).decode()}

    return sign


def ask(api: Api, authority: Authority, seconds: float = 5) -> people.Issued:
    with serving(api) as url, Kube(kubeconfig(authority, url)) as kube:
        return people.issue(kube, "anna", "viewers", MONTH, Deadline(seconds))


def test_what_is_asked_of_the_cluster(authority: Authority) -> None:
    api = Api(signed(authority))
    issued = ask(api, authority)
    ((path, found),) = api.deleted.items()
    assert path.startswith(f"{people.REQUESTS}/homelab-")
    spec = found["spec"]
    assert spec["signerName"] == "kubernetes.io/kube-apiserver-client"
    assert spec["expirationSeconds"] == 30 * 86400
    assert spec["usages"] == ["digital signature", "client auth"]
    request = x509.load_pem_x509_csr(base64.b64decode(spec["request"]))
    assert [item.value for item in request.subject] == ["viewers", "anna"]
    key = load_pem_private_key(issued.key.encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.public_key() == request.public_key()
    assert issued.key not in json.dumps(found)
    assert found["status"]["conditions"][0]["type"] == "Approved"


def test_nobody_signs(authority: Authority) -> None:
    api = Api(lambda _: {})
    with pytest.raises(DeadlineError, match="anna: a signed certificate"):
        ask(api, authority, seconds=0.5)


@pytest.mark.parametrize("kind", ["Denied", "Failed"])
def test_the_cluster_says_no(authority: Authority, kind: str) -> None:
    api = Api(lambda _: {"conditions": [{"type": kind, "status": "True", "message": "not for you"}]})
    with pytest.raises(RefusedError, match="not for you"):
        ask(api, authority)
    assert api.objects == {}


def test_what_is_signed_is_nonsense(authority: Authority) -> None:
    with pytest.raises(ProtocolError, match="not PEM"):
        ask(Api(lambda _: {"certificate": "!"}), authority)


def test_viewers_are_bound_to_view_and_others_to_nothing(authority: Authority) -> None:
    api = Api(lambda _: {})
    with serving(api) as url, Kube(kubeconfig(authority, url)) as kube:
        assert people.bind(kube, "viewers") == "view"
        assert people.bind(kube, "neighbours") is None
    ((path, binding),) = api.objects.items()
    assert path == f"{people.BINDINGS}/homelab-viewers"
    assert binding["roleRef"]["name"] == "view"
    assert binding["subjects"] == [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "viewers"}]


def test_people_may_look_at_what_headlamps_viewer_sees() -> None:
    from components.headlamp import ROLES

    assert people.ROLES["viewers"] == ROLES["viewer"]


def known(tmp_path: Path, text: str | None) -> Lab:
    bare = without_cluster(tmp_path)
    return Lab(bare.stack, bare.settings, certificate=None, kubeconfig=text)


def test_a_persons_file(authority: Authority, tmp_path: Path) -> None:
    api = Api(signed(authority))
    with serving(api) as url:
        lab = known(tmp_path, kubeconfig(authority, url))
        text, role, left = verb.made(lab, "anna", "viewers", MONTH)
    access = Access.parse(text)
    assert (role, access.server) == ("view", url)
    assert access.ca.strip() == authority.pem.strip()
    assert "anna@" in text
    assert 0.9 < left <= 1
    path = verb.place(lab, "anna", None)
    assert not path.parent.exists()
    path.parent.mkdir(parents=True)
    credentials.write(path, text)
    assert path == tmp_path / ".homelab" / "homelab" / "kubeconfig-anna"
    assert path.stat().st_mode & 0o777 == 0o600


def test_before_the_first_up_there_is_nobody_to_sign(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="homelab up --stack homelab"):
        verb.made(known(tmp_path, None), "anna", "viewers", MONTH)


def test_the_administrators_file_is_never_replaced(tmp_path: Path) -> None:
    lab = known(tmp_path, None)
    verb.place(lab, "anna", None)
    with pytest.raises(UserError, match="administrator"):
        verb.place(lab, "anna", lab.stack.folder / "kubeconfig")
    with pytest.raises(UserError, match="not a file"):
        verb.place(lab, "anna", tmp_path)
    with pytest.raises(UserError, match="not a file"):
        verb.place(lab, "anna", tmp_path / "nowhere" / "file")


@pytest.mark.parametrize("name", ["system:masters", "", "-x", "a b", "a/b", "../x", "x" * 70])
def test_names_that_are_kubernetes_own_or_none(name: str) -> None:
    for options in (["--user", name], ["--user", "anna", "--group", name]):
        done = CliRunner().invoke(app, ["kubeconfig", *options])
        assert done.exit_code in (1, 2)
        assert "letters, digits" in done.output or "No such option" in done.output


def test_it_says_that_it_cannot_be_taken_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    verb.told(tmp_path / "x", "viewers", "view", 29.9)
    assert "can't be taken back" in capsys.readouterr().err
    verb.told(tmp_path / "x", "neighbours", None, 29.9)
    assert "may do nothing until you bind a role" in capsys.readouterr().err


def test_a_real_api_server_takes_request_approval_and_binding(api: Cluster, authority: Authority) -> None:
    """There is no controller here that signs; the test does."""
    with Kube(api.kubeconfig) as kube:
        assert people.bind(kube, "viewers") == people.bind(kube, "viewers") == "view"
        signer = threading.Thread(target=_sign_approved, args=(api, kube, authority), daemon=True)
        signer.start()
        issued = people.issue(kube, "anna", "viewers", MONTH, Deadline(30))
        signer.join(30)
        assert "BEGIN CERTIFICATE" in issued.crt
        assert not (kube.look(people.REQUESTS) or {})["items"]


def _sign_approved(api: Cluster, kube: Kube, authority: Authority) -> None:
    def approved() -> Object | None:
        for item in (kube.look(people.REQUESTS) or {}).get("items", ()):
            if any(found["type"] == "Approved" for found in item.get("status", {}).get("conditions", ())):
                return dict(item)
        return None

    item = Deadline(30).poll(approved, "an approved request", 0.05)
    status = {**item["status"], **signed(authority)(item)}
    api.patch(f"{people.REQUESTS}/{item['metadata']['name']}/status", {"status": status})
