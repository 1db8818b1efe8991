"""The script way: download, flash and configure node after node, then bootstrap and wait; as people's scripts do it.

It uses the project's plain clients without Pulumi, and does nothing twice: one download, no looking before it acts. Run
in a lab's folder: `python -m bench.script_way Pulumi.twin.yaml PASSWORD`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import settings
from components.spec import schematic, spec
from providers import pace
from providers.deadline import Deadline
from providers.errors import HomelabError
from providers.kubernetes.client import Kube
from providers.talos.client import ApplyMode, Mode, Talos, probe
from providers.talos.config import NodeConfig, render
from providers.talos.factory import register
from providers.talos.pki import ClientCert
from providers.talos.schematic import image_url
from providers.talos.secrets import SecretsBundle, kubeconfig
from providers.turingpi.client import Bmc, Endpoint
from providers.turingpi.flash import Pace, flash
from providers.turingpi.image import fetch
from settings import Node, Settings

LIMIT_S = 600.0


def main() -> None:
    """Take the lab from blank disks to Ready nodes, one thing after the other."""
    lab, password = settings.load(Path(sys.argv[1])), sys.argv[2]
    bundle = SecretsBundle.generate()
    cert = bundle.issue_client()
    for node in sorted(lab.enabled_nodes, key=lambda node: not node.is_control_plane):
        print(f"{node.name}: flashing", flush=True)
        _flash(node, lab, password)
        print(f"{node.name}: configuring", flush=True)
        _configure(node, lab, bundle, cert)
    _bootstrap(lab, cert)
    _wait_ready(lab, bundle)


def _flash(node: Node, lab: Settings, password: str) -> None:
    talos, recipe, board = lab.cluster.talos, schematic(node, lab), lab.boards[node.board]
    register(talos.factory, recipe.yaml)
    image = fetch(image_url(talos.factory, recipe.id, talos.version))
    with Bmc.connect(Endpoint(board.url, board.username, password)) as bmc:
        wished = {**bmc.power(), node.slot: True}
        flash(bmc, node.slot, image, lambda: wished, Deadline(LIMIT_S), pace=Pace.scaled(pace.scale()))


def _configure(node: Node, lab: Settings, bundle: SecretsBundle, cert: ClientCert) -> None:
    address = str(node.address)
    _wait(lambda: probe(address, cert, timeout_s=3) is Mode.MAINTENANCE, node.name)
    with Talos.insecure(address) as talos:
        talos.apply_configuration(
            render(NodeConfig.from_dict(spec(node, lab)), bundle), ApplyMode.AUTO, timeout_s=LIMIT_S
        )
    if node.is_control_plane:  # a worker gets its certificate from a control plane, and none is bootstrapped yet
        _wait(lambda: probe(address, cert, timeout_s=3) is Mode.OURS, node.name)


def _bootstrap(lab: Settings, cert: ClientCert) -> None:
    first = str(lab.control_plane_addresses[0])

    def taken() -> bool:
        try:
            with Talos.secure(first, cert) as talos:
                talos.bootstrap(timeout_s=30)
        except HomelabError as error:
            return "ALREADY_EXISTS" in str(getattr(error, "code", ""))
        return True

    print("bootstrapping", flush=True)
    _wait(taken, "bootstrap")


def _wait_ready(lab: Settings, bundle: SecretsBundle) -> None:
    endpoint = lab.cluster.endpoint
    access = kubeconfig(lab.cluster.name, endpoint.url, bundle.issue_kubernetes_admin())
    with Kube(access) as kube:
        _wait(kube.healthy, endpoint.url)
        for node in lab.enabled_nodes:
            print(f"{node.name}: waiting until it is Ready", flush=True)
            kube.wait_ready(node.name, Deadline(LIMIT_S))


def _wait(done: Callable[[], bool], what: str) -> None:
    Deadline(LIMIT_S).poll(lambda: done() or None, what, pace.interval(2))


if __name__ == "__main__":
    main()
