"""The Kubernetes API's authority exchanged on real API servers, by the program's own client, with clients connected.

One control plane and a worker: what several do to each other is for the engine's tests. Each goes on from the last.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from cli.api_gap import ApiGap
from providers.deadline import Deadline
from providers.errors import HomelabError
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access
from providers.talos import rotate_check
from providers.talos.client import Talos
from providers.talos.rotate_check import all_ready, clients, prove_kubernetes
from providers.talos.rotation import NONE
from providers.talos.secrets import SecretsBundle, kubeconfig
from providers.talos.wire import admin
from tests.providers.talos.rotating import Lab
from tests.twin.talos_scene import Scene
from tools import paths

pytestmark = [
    pytest.mark.skipif(not paths.servers_bin().exists(), reason="make tools builds the servers"),
    pytest.mark.timeout(400),
]
RESTART_S = 40.0  # of a real API server on a busy machine
ROOT_CA = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOMELAB_TIME_SCALE", "0.01")
        patched.setattr(rotate_check, "PROVEN_S", 120.0)
        scene = Scene(2, tools=paths.servers(), scale=0.01)
        try:
            made = Lab(scene, {"m1": "controlplane", "m2": "worker"})
            wait(lambda: bootstrapped(made), "bootstrap")
            wait(lambda: is_ready(made), "Ready nodes")
            yield made
        finally:
            scene.close()


def wait(true: Callable[[], bool], what: str) -> None:
    def ask() -> bool | None:
        try:
            return true() or None
        except HomelabError:
            return None

    Deadline(120).poll(ask, what, 0.2)


def bootstrapped(lab: Lab) -> bool:
    with Talos.secure(lab.addresses["m1"], admin(lab.bundle.os)) as talos:
        talos.bootstrap()
    return True


def access(lab: Lab, bundle: SecretsBundle) -> str:
    return kubeconfig("test", f"https://{lab.nodes.vip}:6443", bundle.issue_kubernetes_admin())


def is_ready(lab: Lab) -> bool:
    with Kube(access(lab, lab.bundle), timeout_s=5) as kube:
        return {view.name for view in kube.nodes() if view.ready} == {"n1", "n2"}


def prove(lab: Lab) -> list[str]:
    said: list[str] = []
    nodes = lab.nodes
    named = type(nodes)({"n1": lab.addresses["m1"]}, {"n2": lab.addresses["m2"]}, nodes.vip, nodes.port)
    prove_kubernetes(named, clients("kubernetes", lab.bundle, lab.rotation), said.append)
    return said


def in_pods(lab: Lab) -> str:
    """What the cluster tells its pods to trust."""
    with Kube(access(lab, lab.bundle)) as kube:
        return str((kube.look(ROOT_CA) or {})["data"]["ca.crt"])


def test_each_step_with_a_client_of_the_step_before_connected(lab: Lab) -> None:
    first = lab.bundle
    boots = [machine.boot_id for machine in lab.scene.machines.values()]
    said, gaps = [], []
    for step in (1, 2, 3):
        with ApiGap(access(lab, lab.bundle)) as gap:
            lab.step(step, "kubernetes-ca")
            lab.give_all()
            said.append(prove(lab))
            if step == 2:
                wait(lambda: in_pods(lab).strip() == lab.bundle.kubernetes.signing.strip(), "pods' authority")
        gaps.append(gap.longest_s)
    where = "1 API servers and the VIP"
    assert said == [
        [f"the present client: let in by {where}", f"the new client: let in by {where}"],
        [f"the new client: let in by {where}", f"the old client: let in by {where}"],
        [f"the new client: let in by {where}", f"the old client: turned away by {where}"],
    ]
    assert max(gaps) < RESTART_S
    assert [machine.boot_id for machine in lab.scene.machines.values()] == boots
    with pytest.raises(HomelabError), Kube(access(lab, first)) as kube:
        kube.nodes()


def test_kubelets_have_certificates_of_the_new_authority(lab: Lab) -> None:
    """Theirs were of the old one: they asked for others as they started."""
    lab.rotation = NONE
    wait(lambda: is_ready(lab), "Ready nodes")
    with Kube(access(lab, lab.bundle)) as kube:
        asked = (kube.look("/apis/certificates.k8s.io/v1/certificatesigningrequests") or {})["items"]
    names = [item["spec"]["username"] for item in asked]
    assert len([name for name in names if name.startswith("system:bootstrap")]) >= 2


@pytest.mark.parametrize("what", ["aggregator-ca", "service-account"])
def test_what_is_replaced_restarts_the_api_server_once(lab: Lab, what: str) -> None:
    lab.rotation = NONE
    begun = time.monotonic()
    with ApiGap(access(lab, lab.bundle)) as gap:
        lab.step(1, what)
        lab.give_all()
        nodes = lab.nodes
        named = type(nodes)({"n1": lab.addresses["m1"]}, {"n2": lab.addresses["m2"]}, nodes.vip, nodes.port)
        all_ready(named, lab.bundle)
    assert gap.longest_s < min(RESTART_S, time.monotonic() - begun)


def test_a_token_of_before_is_worthless_afterwards(lab: Lab) -> None:
    lab.rotation = NONE
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    with Kube(access(lab, lab.bundle)) as kube:
        token = kube._call("POST", path, body={"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"})
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
        body = {**review, "spec": {"token": (token or {})["status"]["token"]}}
        answer = kube._call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=body) or {}
        assert answer["status"]["authenticated"] is True
    lab.step(1, "service-account")
    lab.give_all()
    wait(lambda: is_ready(lab), "Ready nodes")
    with Kube(access(lab, lab.bundle)) as kube:
        answer = kube._call("POST", "/apis/authentication.k8s.io/v1/tokenreviews", body=body) or {}
        assert not answer["status"].get("authenticated")


def test_the_old_join_token_is_of_no_use(lab: Lab) -> None:
    lab.rotation = NONE
    old = lab.bundle.bootstrap_token
    lab.step(1, "bootstrap-tokens")
    lab.give_all()
    new = lab.bundle.bootstrap_token.partition(".")[0]
    where = "/api/v1/namespaces/kube-system/secrets/bootstrap-token-"
    with Kube(access(lab, lab.bundle)) as kube:
        Deadline(60).poll(lambda: kube.look(where + new), "the new token", 0.2)
        assert kube.remove(where + old.partition(".")[0], Deadline(10))
        wait(lambda: _as_joining(lab, old) == 401, "the old token to be forgotten")
        assert _as_joining(lab, lab.bundle.bootstrap_token) == 403  # known, but may not list nodes


def _as_joining(lab: Lab, token: str) -> int:
    """What the API server answers to whoever shows a token, and no certificate."""
    tls = ssl.create_default_context(cadata=Access.parse(access(lab, lab.bundle)).ca)
    with httpx2.Client(verify=tls, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http:
        return http.get(f"https://{lab.nodes.vip}:6443/api/v1/nodes").status_code
