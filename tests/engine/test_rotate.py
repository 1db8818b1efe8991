"""Rotations on a running lab with clients connected: nobody is without the API for longer than an API server's restart.

Each is cut off in the middle of each of its steps once, and taken up again.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from types import TracebackType
from typing import Any, Self

import pytest
import yaml

from cli.api_gap import ApiGap
from providers.errors import AuthError, HomelabError
from providers.kubernetes.client import Kube
from providers.talos.client import Talos
from providers.talos.pki import ClientCert, load_certificate
from providers.talos.secrets import read_talosconfig
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(3600)]

ROTATE_S = 1200.0
# The API server of the VIP's holder stops and starts: on a busy machine with two cores that takes so long.
RESTART_S = 45.0


class TalosGap:
    """While entered, asks the Talos API of every node with the files that `up` leaves, read anew each time."""

    def __init__(self, lab: Sandbox) -> None:
        self._lab, self._stop = lab, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.longest_s: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(60)

    def _watch(self) -> None:
        nodes = [f"{self._lab.prefix}.{last}" for last in (11, 12, 13, 14)]
        last = dict.fromkeys(nodes, time.monotonic())
        while not self._stop.is_set():
            for node in nodes:
                if self._answers(node):
                    now = time.monotonic()
                    self.longest_s[node] = max(self.longest_s.get(node, 0.0), now - last[node])
                    last[node] = now
            time.sleep(0.05)

    def _answers(self, node: str) -> bool:
        try:
            with Talos.secure(node, read_talosconfig(left(self._lab, "talosconfig"))) as talos:
                talos.version(timeout_s=5)
        except HomelabError:
            return False
        return True


class Following(ApiGap):
    """A client of the Kubernetes API that reads its file anew for each question, as people's tools do."""

    def __init__(self, lab: Sandbox) -> None:
        super().__init__("")
        self._lab = lab

    def _answers(self) -> bool:
        self._kubeconfig = left(self._lab, "kubeconfig")
        return super()._answers()


def left(lab: Sandbox, name: str) -> str:
    """A file that `up` leaves."""
    return (lab.folder / ".homelab" / name).read_text(encoding="utf-8")


def authority(lab: Sandbox, what: str) -> str:
    """The authority that the files trust now."""
    if what == "os-ca":
        return read_talosconfig(left(lab, "talosconfig")).ca
    cluster = yaml.safe_load(left(lab, "kubeconfig"))["clusters"][0]["cluster"]
    return base64.b64decode(cluster["certificate-authority-data"]).decode()


def rotate(lab: Sandbox, what: str) -> str:
    return lab.run("rotate", what, "--yes", limit_s=ROTATE_S).ok().output


def cut_off(lab: Sandbox, what: str, said: str) -> None:
    """Begin, and kill the whole run a moment after it said something."""
    begin = (lab.folder / "run.log").stat().st_size
    process = lab.start("rotate", what, "--yes")
    end = time.monotonic() + ROTATE_S
    while said not in lab.said(begin):
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"it never said {said!r}\n{lab.said(begin)[-4000:]}")
        time.sleep(0.1)
    time.sleep(1)
    lab.kill(process)


def under_way(lab: Sandbox) -> dict[str, Any]:
    resources = {item["urn"].rsplit("::", 1)[-1]: item for item in lab.state()}
    return dict(resources["secrets"]["outputs"])


def boots(lab: Sandbox) -> dict[str, int]:
    return dict(lab.count("boot_started"))


def test_a_preview_shows_the_first_step_and_takes_none(lab: Sandbox) -> None:
    said = lab.run("rotate", "os-ca", "--preview").ok().output
    assert "talos:Secrets secrets update" in said
    assert "talos:Machine node1-machine update" in said
    lab.preview_unchanged().ok()


def test_the_os_authority_while_clients_are_connected(lab: Sandbox) -> None:
    old_cert, before, begun = read_talosconfig(left(lab, "talosconfig")), authority(lab, "os-ca"), boots(lab)
    with TalosGap(lab) as talos, Following(lab) as api:
        rotate(lab, "os-ca")
    assert authority(lab, "os-ca") != before
    assert max(talos.longest_s.values()) < 10
    assert api.longest_s < 5, "the Kubernetes API has nothing to do with it"
    assert boots(lab) == begun
    refused(lab, old_cert)
    lab.preview_unchanged().ok()


def refused(lab: Sandbox, cert: ClientCert) -> None:
    for last in (11, 12, 13, 14):
        with pytest.raises(HomelabError), Talos.secure(f"{lab.prefix}.{last}", cert) as talos:
            talos.version(timeout_s=5)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_the_os_authority_cut_off_in_a_step(lab: Sandbox, step: int) -> None:
    before = authority(lab, "os-ca")
    cut_off(lab, "os-ca", f"os-ca: step {step} of 3")
    with TalosGap(lab) as talos:
        rotate(lab, "os-ca")
    assert authority(lab, "os-ca") != before
    assert max(talos.longest_s.values()) < 10
    lab.preview_unchanged().ok()


def test_the_keys_in_between_are_in_the_state_and_encrypted(lab: Sandbox) -> None:
    cut_off(lab, "os-ca", "os-ca: step 2 of 3")
    text = json.dumps(under_way(lab)["rotation"])
    assert "ciphertext" in text
    assert "PRIVATE" not in lab.pulumi("stack", "export")
    rotate(lab, "os-ca")
    assert not (lab.folder / ".homelab" / "rotation").exists()


def test_the_kubernetes_authority_while_clients_are_connected(lab: Sandbox) -> None:
    old, before, begun = left(lab, "kubeconfig"), authority(lab, "kubernetes-ca"), boots(lab)
    with TalosGap(lab) as talos, Following(lab) as api:
        rotate(lab, "kubernetes-ca")
    assert authority(lab, "kubernetes-ca") != before
    assert api.longest_s < RESTART_S
    assert max(talos.longest_s.values()) < 10
    assert boots(lab) == begun
    with pytest.raises(HomelabError), Kube(old) as kube:
        kube.nodes()
    assert {node["ready"] for node in lab.status()["nodes"]} == {True}
    lab.preview_unchanged().ok()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_the_kubernetes_authority_cut_off_in_a_step(lab: Sandbox, step: int) -> None:
    cut_off(lab, "kubernetes-ca", f"kubernetes-ca: step {step} of 3")
    with Following(lab) as api:
        rotate(lab, "kubernetes-ca")
    assert api.longest_s < RESTART_S
    lab.preview_unchanged().ok()


@pytest.mark.parametrize("what", ["aggregator-ca", "service-account"])
def test_what_is_replaced_in_one_step(lab: Sandbox, what: str) -> None:
    with Following(lab) as api:
        rotate(lab, what)
    assert api.longest_s < RESTART_S
    lab.preview_unchanged().ok()


def test_the_tokens_need_reboots_and_say_so(lab: Sandbox) -> None:
    done = lab.run("rotate", "bootstrap-tokens", "--yes")
    assert done.code == 1
    assert "cluster.talos.allow_reboot" in done.output


def test_etcds_authority_costs_an_outage_and_loses_nothing(lab: Sandbox) -> None:
    with Kube(left(lab, "kubeconfig")) as kube:
        before = {view.uid for view in kube.nodes()}
    begun = boots(lab)
    with Following(lab) as api:
        said = rotate(lab, "etcd-ca")
    assert "a snapshot, in case" in said
    assert api.longest_s < 300
    with Kube(left(lab, "kubeconfig")) as kube:
        assert {view.uid for view in kube.nodes()} == before
    rebooted = {name for name, count in boots(lab).items() if count > begun.get(name, 0)}
    planes = [node["name"] for node in lab.status()["nodes"] if node["role"] == "controlplane"]
    assert rebooted == {name.replace("node", "m") for name in planes}, "the lab has its modules' own names"
    lab.preview_unchanged().ok()


def test_a_persons_file_may_look_and_nothing_else(lab: Sandbox) -> None:
    path = lab.folder / "anna"
    lab.run("kubeconfig", "--user", "anna", "--group", "viewers", "--days", "30", "--out", str(path)).ok()
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text(encoding="utf-8")
    crt = base64.b64decode(yaml.safe_load(text)["users"][0]["user"]["client-certificate-data"]).decode()
    subject = [item.value for item in load_certificate(crt).subject]
    assert sorted(subject) == ["anna", "viewers"]
    with Kube(text) as kube:
        assert kube.look("/api/v1/namespaces/kube-system/configmaps") is not None
        for path_ in ("/api/v1/namespaces/kube-system/secrets", "/api/v1/nodes"):
            with pytest.raises((HomelabError, AuthError), match="forbidden"):
                kube.look(path_)
