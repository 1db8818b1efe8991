"""Waiting for a webhook, with a real kube-apiserver that calls a webhook of the test's own."""

from __future__ import annotations

import base64
import http.server
import json
import queue
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from providers.engine import Reporter
from providers.errors import DeadlineError, RefusedError
from providers.kubernetes import ready
from tests.providers.kubernetes.servers import HOST, Cluster
from tests.providers.kubernetes.wire import Authority

PORT = 9443
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
POOLS = "/apis/metallb.io/v1beta1/namespaces/default/ipaddresspools"
TRIAL = {"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "trial"}}
WAIT_S = 40.0


class Words(Reporter):
    """What a wait says."""

    def __init__(self) -> None:
        super().__init__("urn")
        self.said: queue.Queue[str] = queue.Queue()

    def progress(self, text: str) -> None:
        self.said.put(text)

    def until(self, part: str) -> str:
        """The next word with `part` in it."""
        while True:
            text = self.said.get(timeout=WAIT_S)
            if part in text:
                return text


@contextmanager
def judging(authority: Authority, folder: Path, *, allowed: bool = True) -> Iterator[None]:
    """A webhook that says yes, or no, to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = {"uid": review["request"]["uid"], "allowed": allowed, "status": {"message": "the pool is taken"}}
            body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer((HOST, PORT), Handler)
    pem = folder / "webhook.pem"
    pem.write_text("".join(authority.issue("webhook", addresses=(HOST,))))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def configuration(authority: Authority | None) -> dict[str, Any]:
    bundle = {"caBundle": base64.b64encode(authority.pem.encode()).decode()} if authority else {}
    webhook = {
        "name": "pools.metallb.io",
        "clientConfig": {"url": f"https://{HOST}:{PORT}/", **bundle},
        "rules": [
            {
                "apiGroups": ["metallb.io"],
                "apiVersions": ["v1beta1"],
                "resources": ["ipaddresspools"],
                "operations": ["CREATE"],
            }
        ],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 2,
    }
    return {"metadata": {"name": "metallb-webhook-configuration"}, "webhooks": [webhook]}


def crd() -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
        "metadata": {"name": "ipaddresspools.metallb.io"},
        "spec": {
            "group": "metallb.io",
            "scope": "Namespaced",
            "names": {"plural": "ipaddresspools", "singular": "ipaddresspool", "kind": "IPAddressPool"},
            "versions": [version],
        },
    }


def props(api: Cluster) -> dict[str, Any]:
    return {
        "kubeconfig": api.kubeconfig,
        "configuration": "metallb-webhook-configuration",
        "namespace": "default",
        "service": "metallb-webhook-service",
        "path": POOLS,
        "trial": TRIAL,
    }


def endpoints(**conditions: bool) -> dict[str, Any]:
    return {
        "metadata": {"name": "webhook", "labels": {"kubernetes.io/service-name": "metallb-webhook-service"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.9"], "conditions": conditions}],
    }


def test_4e_40_a_webhook_is_ready_when_it_judges_and_not_before(api, tmp_path):
    words, authority = Words(), Authority()
    waiting = threading.Thread(target=ready.wait, args=(props(api), words, WAIT_S))
    waiting.start()
    words.until("no CA yet")
    api.make(CONFIGURATIONS, configuration(None))
    api.make(SLICES, endpoints(ready=False))
    api.patch(f"{CONFIGURATIONS}/metallb-webhook-configuration", configuration(authority))
    words.until("no endpoint is ready yet")
    api.patch(f"{SLICES}/webhook", endpoints(ready=True))
    words.until("the cluster does not know this kind yet")
    api.make("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd())
    words.until("failed calling webhook")
    with judging(authority, tmp_path):
        waiting.join(WAIT_S)
    assert not waiting.is_alive()
    words.until("ready")
    assert api.get(POOLS)["items"] == []  # nothing was really created


def test_a_trial_that_is_refused_ends_the_wait(api, tmp_path):
    authority = Authority()
    api.patch(f"{CONFIGURATIONS}/metallb-webhook-configuration", configuration(authority))
    with judging(authority, tmp_path, allowed=False), pytest.raises(RefusedError, match="the pool is taken"):
        ready.wait(props(api), Words(), WAIT_S)


def test_it_gives_up_and_says_what_was_missing_and_where_to_look(api):
    with pytest.raises(DeadlineError) as found:
        ready.wait(props(api) | {"configuration": "other"}, Words(), 0.5)
    for part in ("default/metallb-webhook-service", "other: no CA yet", "kubectl -n default get pods", "the CNI"):
        assert part in str(found.value)
