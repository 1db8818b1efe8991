"""How live objects are asked for, and what Helm's own records say."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest

from drift import helm
from drift.applied import Object, Release
from drift.objects import Silence, ask
from providers.errors import ProtocolError, RefusedError, UnreachableError

APPS = {
    "resources": [
        {"name": "deployments", "kind": "Deployment", "namespaced": True},
        {"name": "deployments/scale", "kind": "Scale", "namespaced": True},
    ]
}
CORE = {"resources": [{"name": "namespaces", "kind": "Namespace", "namespaced": False}]}


class Api:
    """Answers by path; an exception is raised, what is not there is None."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def look(self, path: str) -> Mapping[str, Any] | None:
        self.asked.append(path)
        found = self.answers.get(path)
        if isinstance(found, Exception):
            raise found
        return found


def wanted(api: str, kind: str, namespace: str, name: str) -> Object:
    return Object("web", api, kind, namespace, name, {})


DEPLOYMENT = wanted("apps/v1", "Deployment", "web", "web")


def test_each_is_asked_by_its_kinds_own_path() -> None:
    api = Api(
        {
            "/apis/apps/v1": APPS,
            "/api/v1": CORE,
            "/apis/apps/v1/namespaces/web/deployments/web": {"kind": "Deployment"},
            "/api/v1/namespaces/web": {"kind": "Namespace"},
        }
    )
    found = ask(api, [DEPLOYMENT, wanted("v1", "Namespace", "", "web")])
    assert [live for _, live in found] == [{"kind": "Deployment"}, {"kind": "Namespace"}]
    assert api.asked.count("/apis/apps/v1") == 1


def test_an_object_of_a_kind_that_nobody_knows_is_gone() -> None:
    found = ask(Api({}), [wanted("metallb.io/v1beta1", "IPAddressPool", "metallb-system", "lan")])
    assert [live for _, live in found] == [None]


def test_one_that_may_not_be_seen_says_nothing_of_the_others() -> None:
    path = "/apis/apps/v1/namespaces/web/deployments/web"
    api = Api({"/apis/apps/v1": APPS, path: RefusedError("403")})
    other = wanted("apps/v1", "Deployment", "", "other")
    found = dict(ask(api, [DEPLOYMENT, other]))
    assert found[DEPLOYMENT] == Silence("403")
    assert found[other] is None
    assert "/apis/apps/v1/namespaces/default/deployments/other" in api.asked


def test_an_api_that_goes_away_is_not_asked_two_hundred_times() -> None:
    path = "/apis/apps/v1/namespaces/web/deployments/web"
    api = Api({"/apis/apps/v1": APPS, path: UnreachableError("no answer in time")})
    found = ask(api, [wanted("apps/v1", "Deployment", "web", "web") for _ in range(200)])
    assert all(isinstance(live, Silence) for _, live in found)
    assert len(api.asked) < 20


RELEASE = Release("longhorn", "longhorn-system", "longhorn", "1.12.1", 1)
SECRETS = "/api/v1/namespaces/longhorn-system/secrets?labelSelector=owner%3Dhelm%2Cname%3Dlonghorn"
MANIFEST = """\
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: longhorn, namespace: elsewhere}
---
# only a comment
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: longhorn-manager}
spec: {minReadySeconds: 5}
"""


def record(revision: int, status: str = "deployed", manifest: str = MANIFEST) -> dict[str, Any]:
    """One of Helm's Secrets."""
    text = json.dumps({"version": revision, "info": {"status": status}, "manifest": manifest})
    coded = base64.b64encode(base64.b64encode(gzip.compress(text.encode()))).decode()
    return {"metadata": {"name": f"sh.helm.release.v1.longhorn.v{revision}"}, "data": {"release": coded}}


def test_the_newest_revision_counts() -> None:
    found = helm.newest(Api({SECRETS: {"items": [record(2), record(10), record(9, "superseded")]}}), RELEASE)
    assert found is not None
    assert (found.revision, found.status) == (10, "deployed")
    assert [str(item) for item in found.objects] == [
        "ServiceAccount/elsewhere/longhorn",
        "DaemonSet/longhorn-system/longhorn-manager",
    ]
    assert found.objects[1].manifest["spec"] == {"minReadySeconds": 5}


def test_no_record_at_all() -> None:
    assert helm.newest(Api({SECRETS: {"items": []}}), RELEASE) is None


@pytest.mark.parametrize("data", [{}, {"release": "!"}, {"release": "aGVsbG8="}])
def test_a_damaged_record(data: dict[str, str]) -> None:
    with pytest.raises(ProtocolError, match=r"Helm's record sh\.v1 can't be read"):
        helm.newest(Api({SECRETS: {"items": [{"metadata": {"name": "sh.v1"}, "data": data}]}}), RELEASE)


def test_a_manifest_that_is_no_yaml() -> None:
    with pytest.raises(ProtocolError, match="is not YAML"):
        helm.newest(Api({SECRETS: {"items": [record(1, manifest="a: [")]}}), RELEASE)
