"""What the stack's state says."""

from __future__ import annotations

from drift.applied import read
from providers.deployment import HIDDEN, SECRET, SIGNATURE, is_open, opened
from tests.drift.state import BUNDLE, resources


def test_nodes_with_their_machine_configs_and_slots() -> None:
    found = read(resources())
    assert set(found.machines) == {"node1", "node2"}
    assert found.machines["node1"].props["secrets"] == BUNDLE
    assert found.machines["node1"].is_control_plane
    assert not found.machines["node2"].is_control_plane
    assert found.slots == {"node1": ("https://127.107.2.60", 1), "node2": ("https://127.107.2.60", 2)}


def test_objects_of_parts_and_of_charts_within_them() -> None:
    found = {str(item): item for item in read(resources()).objects}
    assert set(found) == {
        "Deployment/web/web", "Secret/web/env", "ServiceAccount/traefik/traefik", "CustomResourceDefinition/a.b.c",
    }  # fmt: skip
    assert found["ServiceAccount/traefik/traefik"].part == "traefik"
    assert found["Secret/web/env"].manifest["stringData"] == {"TOKEN": "tk-hunter2"}


def test_hosts_of_k3s() -> None:
    urn = "urn:pulumi:homelab::homelab::homelab:Host$pulumi-python:dynamic/k3s:Node::rpi1-k3s"
    settings = {"host": "rpi1", "token": {SIGNATURE: SECRET, "plaintext": '"hunter2"'}}
    item = {"urn": urn, "custom": True, "type": "pulumi-python:dynamic/k3s:Node", "inputs": {"settings": settings}}
    found = read([item])
    assert found.hosts["rpi1"]["token"] == "hunter2"
    assert "hunter2" not in repr(found)


def test_a_release_of_helms() -> None:
    (release,) = read(resources()).releases
    assert (release.part, release.namespace, release.name, release.revision) == (
        "longhorn",
        "longhorn-system",
        "longhorn",
        2,
    )


def test_no_secret_is_in_what_is_printed_of_it() -> None:
    found = read(resources())
    assert "hunter2" not in repr(found)
    assert BUNDLE not in repr(found)


def test_a_secret_that_was_not_opened_is_known_as_one() -> None:
    closed = opened({"a": {SIGNATURE: SECRET, "ciphertext": "v1:x"}, "b": [1]})
    assert closed == {"a": HIDDEN, "b": [1]}
    assert not is_open(closed)
    assert is_open({"b": [1, {"c": None}]})


def test_an_empty_state() -> None:
    assert read([]).machines == {}
