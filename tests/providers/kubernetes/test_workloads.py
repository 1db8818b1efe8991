"""Restarting workloads: which are restarted, when all are there again, and that a second run restarts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from providers.deadline import Deadline
from providers.errors import DeadlineError
from providers.kubernetes.client import Kube
from providers.kubernetes.workloads import ANNOTATION, KINDS, Workload, renew_tokens, restart
from tests.providers.kubernetes.servers import Cluster
from tests.providers.kubernetes.test_people import Api, serving
from tests.providers.kubernetes.wire import Authority, kubeconfig

Object = dict[str, Any]


def deployment(name: str, **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "namespace": "web", "generation": 1},
        "spec": {"replicas": 1, "template": {"metadata": {}, "spec": {}}, **spec},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "availableReplicas": 1},
    }


def daemon_set(name: str) -> Object:
    return {
        "metadata": {"name": name, "namespace": "kube-system", "generation": 1},
        "spec": {"template": {"metadata": {}, "spec": {}}, "updateStrategy": {"type": "RollingUpdate"}},
        "status": {
            "observedGeneration": 1,
            "desiredNumberScheduled": 2,
            "updatedNumberScheduled": 2,
            "numberAvailable": 2,
        },
    }


class Applications(Api):
    """Merges annotations, and rolls out at once unless told not to."""

    def __init__(self, *, rolls_out: bool = True, **kinds: list[Object]) -> None:
        super().__init__(lambda _: {})
        self.objects = {f"/apis/apps/v1/{kind}": {"items": kinds.get(kind, [])} for kind in KINDS}
        self.restarts: list[str] = []
        self._rolls_out = rolls_out

    def patch(self, path: str, body: Mapping[str, Any]) -> Object:
        *_, namespace, kind, name = path.split("/")
        items = self.objects[f"/apis/apps/v1/{kind}"]["items"]
        found: Object = next(
            i for i in items if (i["metadata"]["namespace"], i["metadata"]["name"]) == (namespace, name)
        )
        found["spec"]["template"]["metadata"] |= body["spec"]["template"]["metadata"]
        found["metadata"]["generation"] += 1
        found["status"]["observedGeneration"] += self._rolls_out
        self.restarts.append(name)
        return found


@contextmanager
def client(api: Api) -> Iterator[Kube]:
    with serving(api) as url, Kube(kubeconfig(Authority(), url)) as kube:
        yield kube


def test_everything_is_restarted_once_for_a_reason() -> None:
    api = Applications(deployments=[deployment("a"), deployment("b")], daemonsets=[daemon_set("proxy")])
    with client(api) as kube:
        assert restart(kube, "new key", Deadline(5)) == 3
        assert sorted(api.restarts) == ["a", "b", "proxy"]
        assert restart(kube, "new key", Deadline(5)) == 3
        assert len(api.restarts) == 3
        restart(kube, "newer key", Deadline(5))
        assert len(api.restarts) == 6


def test_one_that_does_not_come_back_is_named() -> None:
    api = Applications(deployments=[deployment("a")], rolls_out=False)
    with (
        client(api) as kube,
        pytest.raises(DeadlineError, match=r"1 are not there again.*deployments/a"),
    ):
        restart(kube, "new key", Deadline(0.5))


@pytest.mark.parametrize(
    ("item", "done"),
    [
        (deployment("a"), True),
        (deployment("a") | {"status": {}}, False),
        (deployment("a") | {"status": {"observedGeneration": 1, "updatedReplicas": 1}}, False),
        (deployment("a", updateStrategy={"type": "OnDelete"}) | {"status": {}}, True),
        (deployment("a", replicas=0) | {"status": {"observedGeneration": 1}}, True),
        (daemon_set("a"), True),
        (daemon_set("a") | {"status": {"observedGeneration": 1, "desiredNumberScheduled": 2}}, False),
        (daemon_set("a") | {"status": {"observedGeneration": 1, "desiredNumberScheduled": 0}}, True),
    ],
)
def test_when_a_workload_is_there_again(item: Object, done: bool) -> None:
    assert Workload.parse("deployments", item, "r").done is done


def test_a_real_api_server_takes_restarts_and_forgets_tokens(api: Cluster) -> None:
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod}}
    api.make("/apis/apps/v1/namespaces/default/deployments", body)
    secret = {
        "metadata": {"name": "t", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
        "data": {"token": "b2xk"},
    }
    api.make("/api/v1/namespaces/default/secrets", secret)
    with Kube(api.kubeconfig) as kube:
        with pytest.raises(DeadlineError):  # there is no controller here
            restart(kube, "new key", Deadline(0.5))
        found = kube.look("/apis/apps/v1/namespaces/default/deployments/web") or {}
        assert found["spec"]["template"]["metadata"]["annotations"] == {ANNOTATION: "new key"}
        assert renew_tokens(kube, "new key", Deadline(5)) == ["/api/v1/namespaces/default/secrets/t"]
        kept = kube.look("/api/v1/namespaces/default/secrets/t") or {}
        assert "token" not in kept.get("data", {})
