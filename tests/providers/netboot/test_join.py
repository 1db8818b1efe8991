"""What a plain Linux joins with opens the cluster that its pool names, at a real API server, and goes with a move."""

from __future__ import annotations

import base64
import json
import shlex
import ssl
import time
from typing import Any

import httpx2
import pytest

from providers import pace
from providers.kubernetes.bootstrap import KUBEADM_GROUP, TALOS_GROUP, path
from providers.netboot.resources import JoinProvider
from providers.talos.wire import pack_for_worker
from tests.providers.kubernetes.servers import Cluster
from tests.providers.kubernetes.wire import Authority, kubeconfig
from tests.providers.netboot.test_configs import TALOS, WHOLE

REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
PROVIDER = JoinProvider()


def _props(opens: str, beside: str | None = None, **more: Any) -> dict[str, Any]:
    entries = {"box1": {"name": "box1", "labels": {}, "taints": {}}}
    found = {"pool": "boxes", "kind": "linux", "entries": entries, "hours": 24.0, "kubeconfig": opens, "factory": ""}
    return {**found, "recipe": "", "beside": beside, **more}


def _file(outs: dict[str, Any]) -> dict[str, str]:
    text = json.loads(outs["configs"])["box1"]["text"]
    return dict(shlex.split(line)[0].split("=", 1) for line in text.splitlines())


def _who(join: dict[str, str]) -> tuple[int, Any]:
    """Who the API server takes the holder of a join file for."""
    context = ssl.create_default_context(cadata=base64.b64decode(join["HOMELAB_CA"]).decode())
    headers = {"Authorization": f"Bearer {join['HOMELAB_TOKEN']}"}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = httpx2.post(join["HOMELAB_SERVER"] + REVIEW, json=body, headers=headers, verify=context, trust_env=False)
    return answer.status_code, answer.json()


def _made(props: dict[str, Any]) -> dict[str, Any]:
    return PROVIDER.create(props).outs or {}


def _there(api: Cluster, token: str) -> bool:
    return api.http.get(path(token)).status_code == 200


def test_a_token_is_one_of_talos_and_of_kubeadm(api: Cluster):
    status, told = _who(_file(_made(_props(api.kubeconfig, "school"))))
    assert status == 201
    assert {TALOS_GROUP, KUBEADM_GROUP} <= set(told["status"]["userInfo"]["groups"])


def test_talos_is_given_its_secrets_and_a_token_of_its_own(api: Cluster):
    props: dict[str, Any] = {"kind": "talos", "entries": {"box1": TALOS}, "secrets": pack_for_worker(WHOLE)}
    made = _made(_props(api.kubeconfig, **props))
    (token,), config = made["tokens"], json.loads(made["configs"])["box1"]
    assert config["path"].endswith("/config.yaml")
    assert f"token: {token}." in config["text"]
    assert _there(api, token)


def test_a_moved_pools_tokens_are_taken_back_where_they_were(api: Cluster):
    before = _made(_props(api.kubeconfig))
    (old,) = before["tokens"]
    assert _there(api, old)
    after = PROVIDER.update("boxes-join", before, _props(api.kubeconfig, "school")).outs or {}
    assert not _there(api, old)
    assert _who(_file(after))[0] == 201


def test_tokens_in_a_cluster_that_is_gone_hold_nobody_up(api: Cluster, monkeypatch: pytest.MonkeyPatch):
    gone = kubeconfig(Authority(), "https://127.0.0.1:1")
    before = {**_props(gone, "workshop"), "tokens": ["abcdef"]}
    monkeypatch.setattr(pace, "limit", lambda _: 5.0)
    after = PROVIDER.update("boxes-join", before, _props(api.kubeconfig, "school")).outs or {}
    assert _who(_file(after))[0] == 201


def test_they_are_made_anew_for_another_cluster_another_address_and_another_authority():
    one, other = Authority(), Authority()
    fresh = {"expires": time.time() + 24 * 3600, "tokens": []}
    before = {**_props(kubeconfig(one, "https://192.0.2.1:6443"), "school"), **fresh}

    def changes(opens: str, beside: str | None = "school", **more: Any) -> bool | None:
        return PROVIDER.diff("boxes-join", before, _props(opens, beside, **more)).changes

    assert not changes(kubeconfig(one, "https://192.0.2.1:6443")), "another certificate of the administrator's"
    assert changes(kubeconfig(one, "https://192.0.2.2:6443"))
    assert changes(kubeconfig(other, "https://192.0.2.1:6443"))
    assert changes(kubeconfig(one, "https://192.0.2.1:6443"), None)
    before["kind"] = "talos"
    assert not changes(kubeconfig(other, "https://192.0.2.1:6443"), kind="talos"), "it has its CA among its secrets"
