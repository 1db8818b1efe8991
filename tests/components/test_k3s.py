"""A k3s cluster's resources: what stands beside it when its settings say so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pulumi

from components.k3s import K3s
from settings import Settings, load
from settings.rancher import Rancher
from tests.components.house import LOOP, Made, Recorder, kubeconfig

VALID = Path(__file__).parents[1] / "settings" / "valid"


class Engine(Recorder):
    """Gives the cluster a token and a kubeconfig."""

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        id_, outputs = super().new_resource(args)
        return id_, outputs | {"kubeconfig": kubeconfig(), "token": "K10"}


def build(wanted: Settings) -> Made:
    engine = Engine()

    def program() -> None:
        K3s(wanted.clusters["garage"], wanted)

    run: Any = pulumi.runtime.test  # has no types
    asyncio.set_event_loop(LOOP)  # other tests may have ended theirs
    pulumi.runtime.set_mocks(engine, preview=False)
    run(program)()
    return engine.made


def lab(**garage: object) -> Settings:
    found = load(VALID / "hosts.yaml")
    return found.model_copy(update={"clusters": {"garage": found.clusters["garage"].model_copy(update=garage)}})


def test_a_cluster_with_rancher_is_registered_there():
    rancher = Rancher.model_validate({"url": "https://rancher.home.arpa", "description": "in the garage"})
    made = build(lab(rancher=rancher))
    assert made["garage-rancher"].inputs["settings"]["value"]["url"] == "https://rancher.home.arpa"


def test_a_cluster_without_is_not():
    assert "garage-rancher" not in build(lab())
