"""Registration against a server that answers as Rancher's documented API does; the cluster's API is a real one."""

import http.server
import itertools
import json
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from providers.engine import Reporter
from providers.errors import AuthError, DeadlineError, ProtocolError, RefusedError, UnreachableError
from providers.kubeadm.host import ca_hash
from providers.kubernetes.kubeconfig import Access
from providers.rancher import registration
from providers.rancher.registration import Wish
from tests.ports import free_port
from tests.providers.balancer.certificate import self_signed
from tests.providers.kubernetes.servers import Cluster as Api

REPORT = Reporter("")
NUMBERS = itertools.count(1)  # nobody ends namespaces here, so each test has one of its own
TOKEN = "token-abcde:very-secret"
MANIFEST = """\
---
apiVersion: v1
kind: Namespace
metadata: {name: NAMESPACE}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: cattle, namespace: NAMESPACE}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: proxy-clusterrole-kubeapiserver}
rules: [{apiGroups: [""], resources: [nodes/proxy], verbs: [get]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cattle-cluster-agent, namespace: NAMESPACE}
spec:
  selector: {matchLabels: {app: cattle}}
  template:
    metadata: {labels: {app: cattle}}
    spec: {containers: [{name: agent, image: "rancher/rancher-agent:v2"}]}
"""


class Server:
    """Rancher, as far as an import goes."""

    def __init__(self, pem: Path) -> None:
        self.port = free_port()
        self.clusters: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.namespace = f"cattle-{next(NUMBERS)}"
        self.manifest = MANIFEST.replace("NAMESPACE", self.namespace)
        self.comes_up, self.lets_go, self.looks = True, True, 0
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca = pem.read_text().split("-----BEGIN PRIVATE")[0]
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                code, data = outer.answered(self.command, self.path, self.headers.get("Authorization", ""), body)
                payload = data.encode() if isinstance(data, str) else json.dumps(data).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def end(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answered(self, method: str, url: str, login: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.asked.append(f"{method} {url}")
        parts = urlsplit(url)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path.startswith("/v3/import/"):
            assert login != f"Bearer {TOKEN}", "the manifest's URL is all that is needed"
            return 200, self.manifest
        if login != f"Bearer {TOKEN}":
            return 401, {"type": "error", "message": "must authenticate"}
        kind, _, id_ = parts.path.removeprefix("/v3/").partition("/")
        answer: tuple[int, Any] = getattr(self, f"_{method.lower()}_{kind}")(id_, asked, body)
        return answer

    def _get_clusters(self, id_: str, asked: dict[str, str], _: Any) -> tuple[int, Any]:
        if not id_:
            return 200, {"data": [c for c in self.clusters.values() if c["name"] == asked["name"]]}
        if id_ not in self.clusters:
            return 404, {"type": "error", "message": "not found"}
        cluster = self.clusters[id_]
        self.looks += 1
        if self.comes_up and cluster["state"] == "pending" and self.looks > 1:
            cluster["state"] = "active"
        return 200, cluster

    def _post_clusters(self, _: str, __: Any, body: dict[str, Any]) -> tuple[int, Any]:
        id_ = f"c-{len(self.clusters):05}"
        self.clusters[id_] = {**body, "id": id_, "state": "pending", "transitioningMessage": "waiting for the agent"}
        return 201, self.clusters[id_]

    def _delete_clusters(self, id_: str, *_: Any) -> tuple[int, Any]:
        if self.lets_go:
            return (200, {}) if self.clusters.pop(id_, None) else (404, {"message": "not found"})
        self.clusters[id_]["state"] = "removing"
        return 200, {}

    def _get_clusterregistrationtokens(self, _: str, asked: dict[str, str], __: Any) -> tuple[int, Any]:
        found = [token for token in self.tokens.values() if token["clusterId"] == asked["clusterId"]]
        for token in list(found):
            if "seen" in token:  # its controller fills it in a moment later
                token["manifestUrl"] = f"{self.url}/v3/import/secret_{token['clusterId']}.yaml"
            token["seen"] = True
        return 200, {"data": found}

    def _post_clusterregistrationtokens(self, _: str, __: Any, body: dict[str, Any]) -> tuple[int, Any]:
        self.tokens[body["clusterId"]] = {**body, "id": f"{body['clusterId']}:default-token"}
        return 201, self.tokens[body["clusterId"]]


@pytest.fixture
def rancher(tmp_path: Path) -> Iterator[Server]:
    server = Server(self_signed(tmp_path / "rancher.pem"))
    yield server
    server.end()


@pytest.fixture
def wish(rancher: Server, api: Api, monkeypatch: pytest.MonkeyPatch) -> Wish:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.002")
    for name in ("ACTIVE_S", "MANIFEST_S", "REMOVED_S"):
        monkeypatch.setattr(registration, name, 2.0)
    return Wish("garage", rancher.url, TOKEN, api.kubeconfig, rancher.ca, "in the garage")


def agent(rancher: Server, api: Api) -> str:
    path = f"/apis/apps/v1/namespaces/{rancher.namespace}/deployments/cattle-cluster-agent"
    return str(api.get(path)["metadata"]["uid"])


def test_a_cluster_is_registered_and_taken_out_again(rancher: Server, wish: Wish, api: Api):
    id_, paths = registration.ensure(wish, REPORT)
    (known,) = rancher.clusters.values()
    assert (id_, known["name"], known["state"]) == (known["id"], "garage", "active")
    assert known["annotations"]["homelab.ca"] == ca_hash(Access.parse(api.kubeconfig).ca)
    assert agent(rancher, api)
    assert "/apis/rbac.authorization.k8s.io/v1/clusterroles/proxy-clusterrole-kubeapiserver" in paths
    registration.end(wish, id_, paths, REPORT)
    assert rancher.clusters == {}
    with pytest.raises(RuntimeError, match="NotFound"):
        api.get(paths[-2])
    registration.end(wish, id_, paths, REPORT)


def test_again_it_is_found_and_not_registered_twice(rancher: Server, wish: Wish, api: Api):
    first, _ = registration.ensure(wish, REPORT)
    uid = agent(rancher, api)
    second, _ = registration.ensure(wish, REPORT)
    assert first == second
    assert len(rancher.clusters) == 1
    assert agent(rancher, api) == uid


def test_another_cluster_of_that_name_is_left_alone(rancher: Server, wish: Wish):
    rancher.answered("POST", "/v3/clusters", f"Bearer {TOKEN}", {"name": "garage"})
    with pytest.raises(RefusedError, match=r"has a cluster garage \(c-00000\) that is not this one"):
        registration.ensure(wish, REPORT)
    assert not [line for line in rancher.asked if "import" in line]


def test_an_agent_that_does_not_come_is_told(rancher: Server, wish: Wish):
    rancher.comes_up = False
    with pytest.raises(DeadlineError, match=r"it is pending \(waiting for the agent\); look with `kubectl"):
        registration.ensure(wish, REPORT)


def test_a_server_that_does_not_let_go_is_told(rancher: Server, wish: Wish):
    id_, paths = registration.ensure(wish, REPORT)
    rancher.lets_go = False
    with pytest.raises(DeadlineError, match=r"waits for the cluster's agent.*metadata\.finalizers"):
        registration.end(wish, id_, paths, REPORT)


def test_a_refused_token_says_how_to_set_another(wish: Wish):
    with pytest.raises(AuthError, match=r"refuses the token.*homelab secret") as caught:
        registration.ensure(replace(wish, token="other-secret"), REPORT)
    assert "other-secret" not in str(caught.value)


def test_an_untrusted_certificate_says_where_to_write_its_ca(wish: Wish):
    with pytest.raises(UnreachableError, match=r"not trusted; write rancher\.ca"):
        registration.ensure(replace(wish, ca=""), REPORT)


def test_a_page_in_place_of_a_manifest_is_not_repeated(rancher: Server, wish: Wish):
    rancher.manifest = "<html>secret</html>"
    with pytest.raises(ProtocolError, match="no Kubernetes objects") as caught:
        registration.ensure(wish, REPORT)
    assert "<html>" not in str(caught.value)


def test_what_is_gone_there_is_seen(rancher: Server, wish: Wish):
    id_, _ = registration.ensure(wish, REPORT)
    assert not registration.is_gone(wish, id_, REPORT)
    rancher.clusters.clear()
    assert registration.is_gone(wish, id_, REPORT)
    rancher.end()
    assert not registration.is_gone(wish, id_, REPORT)


def test_secrets_are_not_in_its_repr(wish: Wish):
    assert TOKEN not in repr(wish)
    assert "client-key-data" not in repr(wish)
