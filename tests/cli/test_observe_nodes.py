"""Nodes in every state, asked as `watch` asks them: over real TLS and gRPC, at the port that Talos has."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from cli.observe_scene import SeenNode, look
from providers.talos import methods, pki
from providers.talos.api import talos_pb2 as pb
from providers.talos.secrets import SecretsBundle
from settings.cni import Role
from tests.cli.lab import VIP
from tests.cli.lab import lab as bare
from tests.providers.talos import conftest as talos_api

ADDRESS = f"127.114.{random.SystemRandom().randrange(20, 250)}.1"
BUNDLE = SecretsBundle.generate()
STAGE = "status: {ready: false, unmetConditions: [{name: nodeReady, reason: the node is not Ready}]}\nstage: booting"

Start = Callable[..., talos_api.Node]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a node at the address of the lab's only control plane."""
    monkeypatch.setattr(talos_api, "HOST", ADDRESS)
    made: list[talos_api.Node] = []

    def node(ca: pki.CertAndKey = BUNDLE.os, *, configured: bool = True) -> talos_api.Node:
        found = talos_api.Node(ca, tmp_path, wants_certificate=configured)
        pem = tmp_path / "server.pem"
        pem.write_text(talos_api.server_certificate(ca, ADDRESS))
        found._context.load_cert_chain(pem)
        found.port = 50000
        made.append(found)
        return found.start()

    yield node
    for found in made:
        found.stop()


def seen(tmp_path: Path, role: Role = Role.CONTROLPLANE) -> SeenNode:
    here = bare(tmp_path)
    node = here.settings.nodes["node1"].model_copy(update={"address": ADDRESS, "role": role})
    settings = here.settings.model_copy(update={"nodes": {"node1": node}})
    certificate = BUNDLE.issue_client()
    return look(dataclasses.replace(here, settings=settings, certificate=certificate)).nodes[0]


def tell(node: talos_api.Node, method: Any, message: Any) -> None:
    node.answer(method, lambda _: message)


def told(node: talos_api.Node) -> None:
    """Have the node tell what `watch` asks."""
    tell(node, methods.VERSION, pb.VersionResponse(messages=[pb.Version(version=pb.VersionInfo(tag="v1.13.9"))]))
    tell(node, methods.COSI_GET, pb.GetResponse(resource=pb.Resource(spec=pb.ResourceSpec(yaml_spec=STAGE))))
    held = pb.Resource(spec=pb.ResourceSpec(yaml_spec=f"address: {VIP}/32"))
    tell(node, methods.COSI_LIST, [pb.ListResponse(resource=held)])
    member = pb.EtcdMember(id=1, hostname="node1", peer_urls=[f"https://{ADDRESS}:2380"])
    tell(node, methods.ETCD_MEMBER_LIST, pb.EtcdMemberListResponse(messages=[pb.EtcdMembers(members=[member])]))
    status = pb.EtcdStatus(member_status=pb.EtcdMemberStatus(member_id=1, leader=1))
    tell(node, methods.ETCD_STATUS, pb.EtcdStatusResponse(messages=[status]))


def test_a_node_tells_its_stage_its_version_and_what_it_waits_for(start: Start, tmp_path: Path) -> None:
    told(start())
    found = seen(tmp_path)
    assert (found.talos, found.stage, found.version) == ("running", "booting", "v1.13.9")
    assert found.waits == ("nodeReady: the node is not Ready",)
    assert (found.vip, found.etcd) == (True, "healthy")


def test_a_node_that_refuses_every_question_is_there_all_the_same(start: Start, tmp_path: Path) -> None:
    start()
    found = seen(tmp_path)
    assert (found.talos, found.stage, found.version, found.vip, found.etcd) == ("running", "", "", False, "")


def test_a_member_whose_own_etcd_has_no_say_is_no_witness(start: Start, tmp_path: Path) -> None:
    node = start()
    told(node)
    tell(node, methods.ETCD_STATUS, GRPCError(Status.UNAVAILABLE, "no leader"))
    assert seen(tmp_path).etcd == ""


def test_a_worker_is_not_asked_for_etcd(start: Start, tmp_path: Path) -> None:
    told(start())
    found = seen(tmp_path, Role.WORKER)
    assert (found.stage, found.etcd) == ("booting", "")


def test_a_node_in_maintenance_tells_its_stage(start: Start, tmp_path: Path) -> None:
    told(start(pki.new_authority("talos", "ed25519"), configured=False))
    found = seen(tmp_path)
    assert (found.talos, found.stage, found.version, found.etcd) == ("maintenance", "booting", "v1.13.9", "")


def test_another_clusters_node_is_not_asked(start: Start, tmp_path: Path) -> None:
    told(start(pki.new_authority("talos", "ed25519")))
    found = seen(tmp_path)
    assert (found.talos, found.stage) == ("foreign", "")
