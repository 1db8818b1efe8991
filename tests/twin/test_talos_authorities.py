"""The exchange of the Talos API's authority on simulated nodes, as facts daytwo 4.1 has it: who is let in, and when."""

import base64
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.twin.talos_client import Node
from tests.twin.talos_config import Cluster, authority
from tests.twin.talos_scene import Scene
from twin.talos.api import machine_pb2 as pb
from twin.talos.pki import Pair, is_issued_by, issue

NO_REBOOT = pb.ApplyConfigurationRequest.NO_REBOOT


@pytest.fixture
def scene() -> Iterator[Scene]:
    """A control plane m1 and a worker m2."""
    made = Scene(2)
    made.maintenance("m1", "m2")
    made.configure("m1", "controlplane")
    made.configure("m2", "worker")
    made.until(lambda: made.system("m2").api.listening)
    yield made
    made.close()


@pytest.fixture
def new() -> Pair:
    return authority("talos", ed=True)


def coded(pem: bytes) -> str:
    return base64.b64encode(pem).decode()


def config(scene: Scene, name: str, signing: Pair, *accepted: Pair) -> bytes:
    """A node's config with these authorities of the Talos API."""
    kind = "controlplane" if name == "m1" else "worker"
    document: dict[str, Any] = scene.cluster.config(kind, name.replace("m", "n"))
    key = {"key": coded(signing.key)} if kind == "controlplane" else {}
    document["machine"]["ca"] = {"crt": coded(signing.crt), **key}
    document["machine"]["acceptedCAs"] = [{"crt": coded(pair.crt)} for pair in accepted]
    return yaml.safe_dump(document).encode()


def ask(scene: Scene, name: str, trusted: bytes, signer: Pair, method: str = "Version", request: Any = None) -> Any:
    async def call() -> Any:
        leaf = issue(signer, "", ("os:admin",), client=True)
        async with Node(str(scene.machines[name].spec.address), trusted, leaf) as node:
            return await node.call(method, request)

    return scene.run(call())


def is_let_in(scene: Scene, name: str, trusted: bytes, signer: Pair) -> bool:
    try:
        ask(scene, name, trusted, signer)
    except (ssl.SSLError, OSError):
        return False
    except Exception as error:  # grpclib tells of a connection that was ended in many ways
        if "Connection lost" not in str(error):
            raise
        return False
    return True


def take(scene: Scene, name: str, trusted: bytes, signer: Pair, text: bytes) -> None:
    """Apply a config while the node runs, and wait until its API shows the certificate that goes with it."""
    renewed = len(scene.events("api_renewed"))
    request = pb.ApplyConfigurationRequest(data=text, mode=NO_REBOOT)
    ask(scene, name, trusted, signer, "ApplyConfiguration", request)
    scene.until(lambda: len(scene.events("api_renewed")) > renewed)


def test_each_step_lets_in_whom_talos_lets_in(scene: Scene, new: Pair) -> None:
    old = scene.cluster.os
    both = old.crt + new.crt
    for name in ("m1", "m2"):
        take(scene, name, old.crt, old, config(scene, name, old, new))
        assert is_let_in(scene, name, old.crt, old)
        assert is_let_in(scene, name, old.crt, new), "the new client, with the old server's certificate"
        assert not is_let_in(scene, name, new.crt, new), "the node still shows a certificate of the old authority"
    for name in ("m1", "m2"):
        take(scene, name, both, old, config(scene, name, new, old))
        assert is_let_in(scene, name, new.crt, new)
        assert is_let_in(scene, name, new.crt, old), "the old client, with the new server's certificate"
        assert not is_let_in(scene, name, old.crt, old)
    for name in ("m1", "m2"):
        take(scene, name, new.crt, new, config(scene, name, new))
        assert is_let_in(scene, name, new.crt, new)
        assert not is_let_in(scene, name, new.crt, old), "nobody accepts the old authority any more"


def test_nothing_but_the_certificate_changes(scene: Scene, new: Pair) -> None:
    old, boots = scene.cluster.os, [machine.boot_id for machine in scene.machines.values()]
    take(scene, "m1", old.crt, old, config(scene, "m1", old, new))
    take(scene, "m1", old.crt, old, config(scene, "m1", new, old))
    assert [machine.boot_id for machine in scene.machines.values()] == boots


def test_a_connection_that_is_open_goes_on(scene: Scene, new: Pair) -> None:
    old, address = scene.cluster.os, str(scene.machines["m1"].spec.address)

    async def through() -> str:
        async with Node(address, old.crt, issue(old, "", ("os:admin",), client=True)) as node:
            for text in (config(scene, "m1", old, new), config(scene, "m1", new, old), config(scene, "m1", new)):
                request = pb.ApplyConfigurationRequest(data=text, mode=NO_REBOOT)
                await node.call("ApplyConfiguration", request)
            found = await node.call("Version")
            return str(found.messages[0].version.tag)

    assert scene.run(through()) == scene.version


def test_a_worker_before_its_control_plane_keeps_a_certificate_of_the_old_authority(scene: Scene, new: Pair) -> None:
    """Its certificate is signed by whoever of the control planes it asks: the order matters."""
    old = scene.cluster.os
    for name in ("m1", "m2"):
        take(scene, name, old.crt, old, config(scene, name, old, new))
    take(scene, "m2", old.crt, old, config(scene, "m2", new, old))
    assert is_let_in(scene, "m2", old.crt, new)
    assert not is_let_in(scene, "m2", new.crt, new)


def test_forwarding_between_nodes_of_neighbouring_steps(scene: Scene, new: Pair) -> None:
    old = scene.cluster.os
    for name in ("m1", "m2"):
        take(scene, name, old.crt, old, config(scene, name, old, new))
    take(scene, "m1", old.crt, old, config(scene, "m1", new, old))

    async def through() -> Any:
        leaf = issue(new, "", ("os:admin",), client=True)
        async with Node(str(scene.machines["m1"].spec.address), new.crt, leaf) as node:
            return await node.call("Version", node=str(scene.machines["m2"].spec.address))

    assert scene.run(through()).messages[0].version.tag == scene.version


def test_a_config_with_a_broken_authority_is_refused(scene: Scene) -> None:
    old = scene.cluster.os
    text = config(scene, "m1", old, Pair(b"no certificate", b""))
    with pytest.raises(Exception, match=r"machine\.acceptedCAs"):
        ask(scene, "m1", old.crt, old, "ApplyConfiguration", pb.ApplyConfigurationRequest(data=text, mode=NO_REBOOT))


def test_which_authority_signed() -> None:
    one, other = authority("talos", ed=True), authority("talos", ed=True)
    leaf = issue(one, "n1", server=True)
    assert is_issued_by(leaf.crt, other.crt + one.crt)
    assert not is_issued_by(leaf.crt, other.crt)
    assert Cluster("127.0.0.1").os.crt != one.crt
