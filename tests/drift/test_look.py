"""A whole look over the wires: a Talos API, a Kubernetes API and a board's BMC that answer as real ones do."""

from __future__ import annotations

import dataclasses
import http.server
import json
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.observe import Lab
from cli.stacks import Stack
from components.spec import spec
from drift.applied import read
from drift.findings import Finding, Kind
from drift.hands import LabHands
from drift.judge import Declared, judge
from drift.look import look
from providers.deployment import SECRET, SIGNATURE
from providers.engine import Reporter
from providers.errors import RefusedError
from providers.talos import methods, pki
from providers.talos.api import talos_pb2 as pb
from providers.talos.config import NodeConfig, render
from providers.talos.secrets import SecretsBundle
from providers.talos.wire import pack
from settings import Settings, from_values
from tests.drift.state import component, deployment, dynamic, kubernetes
from tests.providers.kubernetes.wire import Authority, kubeconfig
from tests.providers.talos import conftest as talos_api
from tests.providers.turingpi.lab import PASSWORD, running
from tests.providers.turingpi.lab import Lab as Boards

NET = f"127.113.{random.SystemRandom().randrange(1, 250)}"
NODE, API = f"{NET}.11", f"{NET}.5"
BUNDLE = SecretsBundle.generate()
APPS = {"resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True}]}
OBJECT = "/apis/apps/v1/namespaces/web/deployments/web"


def settings(board: str = f"{NET}.60", count: int = 1) -> Settings:
    """Control planes in the first slots."""
    nodes = {
        f"node{number}": {
            "role": "controlplane",
            "address": f"{NET}.1{number}",
            "mac": f"02:00:00:00:00:0{number}",
            "machine": {"board": "board1", "slot": number},
        }
        for number in range(1, count + 1)
    }
    cluster = {
        "endpoint": {"vip": f"{NET}.9"},
        "talos": {"version": "v1.13.9"},
        "kubernetes": {"version": "v1.36.1"},
    }
    boards = {"board1": {"address": board, "password": PASSWORD}}
    sections = {"cluster": cluster, "boards": boards, "nodes": nodes}
    return from_values({name: json.dumps(section) for name, section in sections.items()})


def resources(lab: Settings) -> list[dict[str, Any]]:
    """What an `up` would have left in the state."""
    own, web = component("Node", "node1"), component("Application", "web")
    packed = {SIGNATURE: SECRET, "plaintext": json.dumps(pack(BUNDLE))}
    props = {"node": "node1", "address": NODE, "spec": spec(lab.nodes["node1"], lab), "secrets": packed}
    return [own, dynamic("talos:Machine", "node1-machine", props, own), web, kubernetes("web/web", deployment(), web)]


def config(lab: Settings) -> str:
    """The machine config that was applied."""
    return render(NodeConfig.from_dict({**spec(lab.nodes["node1"], lab), "credentials": {}}), BUNDLE)


def control_plane(folder: Path, address: str, members: list[pb.EtcdMember]) -> talos_api.Node:
    """A node at the port that Talos has, whose etcd lists those members; to be started and stopped."""
    made = talos_api.Node(BUNDLE.os, folder, wants_certificate=True)
    made.port = 50000
    pem = folder / f"{id(made)}.pem"
    pem.write_text(talos_api.server_certificate(BUNDLE.os, address))
    made._context.load_cert_chain(pem)
    status = pb.EtcdStatusResponse(messages=[pb.EtcdStatus(member_status=pb.EtcdMemberStatus(member_id=1, leader=1))])
    made.answer(methods.ETCD_MEMBER_LIST, lambda _: _listed(members))
    made.answer(methods.ETCD_STATUS, lambda _: status)
    return made


def _listed(members: list[pb.EtcdMember]) -> pb.EtcdMemberListResponse:
    return pb.EtcdMemberListResponse(messages=[pb.EtcdMembers(members=members)])


def member(name: str, number: int) -> pb.EtcdMember:
    return pb.EtcdMember(id=number, hostname=name, peer_urls=[f"https://{NET}.{10 + number}:2380"])


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[talos_api.Node]:
    """A control plane that lists itself and a stranger in etcd."""
    monkeypatch.setattr(talos_api, "HOST", NODE)
    made = control_plane(tmp_path, NODE, [member("node1", 1), member("node9", 9)])
    holds(made, config(settings()))
    yield made.start()
    made.stop()


def holds(made: talos_api.Node, text: str) -> None:
    """Have a node hold a machine config."""
    answer = pb.GetResponse(resource=pb.Resource(spec=pb.ResourceSpec(yaml_spec=yaml.safe_dump(text))))
    made.answer(methods.COSI_GET, lambda _: answer)


@contextmanager
def api(answers: dict[str, Any], folder: Path) -> Iterator[str]:
    """A Kubernetes API that answers by path; gives its kubeconfig."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = answers.get(self.path)
            body = json.dumps(found or {"kind": "Status", "message": "not found", "code": 404}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    authority = Authority()
    certificate, key = authority.issue("server", addresses=(API,))
    pem = folder / "server.pem"
    pem.write_text(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = http.server.ThreadingHTTPServer((API, 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield kubeconfig(authority, f"https://{API}:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answers() -> dict[str, Any]:
    """A cluster of one node with one object."""
    return {
        "/version": {"gitVersion": "v1.36.1"},
        "/api/v1/nodes": {"items": [{"metadata": {"name": "node1", "uid": "u"}}]},
        "/apis/apps/v1": APPS,
        OBJECT: {**deployment(), "status": {"replicas": 1}},
    }


def found(lab: Lab) -> list[Finding]:
    applied = read(resources(lab.settings))
    return list(judge(Declared("homelab", lab.settings, applied), look(lab, applied)).findings)


def kinds(findings: list[Finding]) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.name) for finding in findings]


STRANGER = (Kind.ORPHAN_ETCD_MEMBER, "node9")


@pytest.fixture
def house(node: talos_api.Node, tmp_path: Path) -> Iterator[tuple[Lab, dict[str, Any]]]:
    given = answers()
    with api(given, tmp_path) as access:
        yield Lab(Stack("homelab", tmp_path), settings(), BUNDLE.issue_client(), access), given


def test_what_was_applied_is_there_and_a_stranger_in_etcd_is_seen(house: tuple[Lab, dict[str, Any]]) -> None:
    assert kinds(found(house[0])) == [STRANGER]


def test_a_config_edited_by_hand_is_seen(house: tuple[Lab, dict[str, Any]], node: talos_api.Node) -> None:
    holds(node, config(house[0].settings).replace("machine:", "machine:\n  sysctls: {vm.swappiness: '1'}", 1))
    assert kinds(found(house[0])) == [(Kind.CONFIG_CHANGED, "node1"), STRANGER]


@pytest.mark.parametrize(
    ("change", "kind", "name"),
    [
        (lambda a: a[OBJECT]["spec"].update(replicas=0), Kind.OBJECT_CHANGED, "Deployment/web/web"),
        (lambda a: a.pop(OBJECT), Kind.OBJECT_DELETED, "Deployment/web/web"),
        (lambda a: a["/api/v1/nodes"]["items"].clear(), Kind.NOT_IN_KUBERNETES, "node1"),
    ],
)
def test_what_was_done_to_the_cluster_by_hand_is_seen(
    house: tuple[Lab, dict[str, Any]], change: Callable[[dict[str, Any]], Any], kind: Kind, name: str
) -> None:
    change(house[1])
    assert kinds(found(house[0])) == sorted([(kind, name), STRANGER], key=lambda pair: pair == STRANGER)


def test_a_node_of_another_cluster_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talos_api, "HOST", NODE)
    stranger = talos_api.Node(pki.new_authority("talos", "ed25519"), tmp_path, wants_certificate=True)
    stranger.port = 50000
    stranger.start()
    try:
        lab = Lab(Stack("homelab", tmp_path), settings(), BUNDLE.issue_client(), None)
        assert kinds(found(lab)) == [(Kind.FOREIGN, "node1")]
    finally:
        stranger.stop()


def orphans(lab: Lab) -> list[Finding]:
    """What etcd lists and nobody declares."""
    applied = read([])
    report = judge(Declared("homelab", lab.settings, applied), look(lab, applied))
    return [finding for finding in report.orphans if finding.kind is Kind.ORPHAN_ETCD_MEMBER]


def test_a_dead_orphan_is_removed_from_etcd_by_a_peer_and_only_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOMELAB_TIME_SCALE", "0.01")
    members = [member("node1", 1), member("node2", 2), member("node9", 9)]
    removed: list[int] = []

    def remove(asked: pb.EtcdRemoveMemberByIDRequest) -> pb.AcknowledgementResponse:
        removed.append(asked.member_id)
        members[:] = [found for found in members if found.id != asked.member_id]
        return pb.AcknowledgementResponse(messages=[pb.Acknowledgement()])

    started = []
    for number in (1, 2):
        monkeypatch.setattr(talos_api, "HOST", f"{NET}.1{number}")
        made = control_plane(tmp_path, f"{NET}.1{number}", members)
        made.answer(methods.ETCD_REMOVE_MEMBER, remove)
        started.append(made.start())
    lab = Lab(Stack("homelab", tmp_path), settings(count=2), BUNDLE.issue_client(), None)
    try:
        (found,) = orphans(lab)
        LabHands(lab, Reporter(urn="")).free("node9", (found,))
        assert removed == [9]
        assert orphans(lab) == []
    finally:
        for made in started:
            made.stop()


def test_an_orphan_that_the_quorum_needs_is_not_touched(
    house: tuple[Lab, dict[str, Any]], node: talos_api.Node
) -> None:
    """etcd of two, of which one is dead, has no quorum: nothing may be changed."""
    node.answer(methods.ETCD_REMOVE_MEMBER, lambda _: pytest.fail("it was removed"))
    (found,) = orphans(house[0])
    with pytest.raises(RefusedError, match="etcd has no quorum"):
        LabHands(house[0], Reporter(urn="")).free("node9", (found,))


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Boards]:
    """Boards whose modules never boot: nothing but their BMCs runs."""
    with running(tmp_path_factory.mktemp("boards")) as started:
        yield started
        started.close()


def at_board(boards: Boards, folder: Path) -> Lab:
    found = settings(boards.url("new"))
    return Lab(Stack("homelab", folder), found, None, None)


def test_power_in_slots_is_seen_and_an_orphans_is_taken(boards: Boards, tmp_path: Path) -> None:
    lab = at_board(boards, tmp_path)
    with boards.bmc("new") as bmc:
        bmc.set_power({1: False, 3: True})
    assert kinds(found(lab)) == [(Kind.POWER_OFF, "node1"), (Kind.ORPHAN_SLOT, "board1/3")]
    LabHands(lab, Reporter(urn="")).switch_off("board1/3")
    with boards.bmc("new") as bmc:
        assert bmc.power()[3] is False
        bmc.set_power({1: True})
    assert kinds(found(lab)) == []


def test_a_board_whose_password_is_not_known_here_is_not_asked(boards: Boards, tmp_path: Path) -> None:
    lab = at_board(boards, tmp_path)
    wrong = lab.settings.model_copy(
        update={"boards": {"board1": lab.settings.boards["board1"].model_copy(update={"password": None})}}
    )
    closed = dataclasses.replace(lab, settings=wrong)
    applied = read(resources(closed.settings))
    report = judge(Declared("homelab", closed.settings, applied), look(closed, applied))
    assert report.blind
    assert report.findings == ()
