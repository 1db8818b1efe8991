"""`homelab image`: the images that a lab's nodes are made of, as people and machines read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli import stacks
from cli.main import app
from cli.stacks import Stack

ROOT = Path(__file__).parents[2]
# The factory's own ids, computed there: facts of the Image Factory, not of this program.
RK1 = "85f683902139269fbc5a7f64ea94a694d31e0b3d94347a225223fcbd042083ae"
CM4 = "f8a903f101ce10f686476024898734bb6b36353cc4d41f348514db9004ec0a9d"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the lab of four nodes with other settings, and has the command read it."""

    def write(module: str = "rk1", **talos: Any) -> None:
        data = yaml.safe_load((ROOT / "Pulumi.twin.yaml").read_text(encoding="utf-8"))
        del data["config"]["homelab:platform"]
        cluster = data["config"]["homelab:cluster"]
        cluster["talos"] = {"version": "v1.13.9", **talos}
        data["config"]["homelab:nodes"]["node4"]["module"] = module
        (tmp_path / "Pulumi.homelab.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")

    monkeypatch.setattr(stacks, "find", lambda name: Stack(name, tmp_path))
    return write


def run(*options: str) -> str:
    done = CliRunner().invoke(app, ["image", "--stack", "homelab", *options])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_nodes_of_one_kind_stand_together_with_their_schematic(lab: Any) -> None:
    lab()
    said = run()
    assert "node1, node2, node3, node4:" in said
    assert f"https://factory.talos.dev/image/{RK1}/v1.13.9/metal-arm64.raw.xz" in said
    assert f"factory.talos.dev/metal-installer/{RK1}:v1.13.9" in said
    assert "name: turingrk1" in said


def test_each_kind_of_module_has_images_of_its_own(lab: Any) -> None:
    lab(module="cm4")
    found = {item["node"]: item for item in json.loads(run("--json"))}
    assert found["node1"]["schematic"] == RK1
    assert found["node4"]["schematic"] == CM4
    recipe = found["node4"]["recipe"]
    assert hashlib.sha256(recipe.encode()).hexdigest() == CM4
    assert found["node4"]["installer"] == f"factory.talos.dev/metal-installer/{CM4}:v1.13.9"


def test_images_of_the_owners_own_stand_as_they_were_written(lab: Any) -> None:
    lab(image="images/mine.raw.xz", installer="registry.home.arpa/talos:v1.13.9")
    found = json.loads(run("--json"))[0]
    assert found == {
        "node": "node1",
        "disk_image": "images/mine.raw.xz",
        "installer": "registry.home.arpa/talos:v1.13.9",
        "schematic": "",
        "recipe": "",
    }
    assert "schematic  -" in run()


class Factory(HTTPServer):
    """Takes schematics and keeps them."""

    def __init__(self, status: int) -> None:
        self.posted: list[bytes] = []
        self.status = status
        super().__init__(("127.110.9.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Factory

    def do_POST(self) -> None:
        self.server.posted.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"no such extension")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def factory(request: pytest.FixtureRequest) -> Iterator[Factory]:
    server = Factory(getattr(request, "param", 201))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_factory_is_told_of_each_schematic_once_and_only_when_asked(lab: Any, factory: Factory) -> None:
    lab(module="cm4", factory=f"http://127.110.9.1:{factory.server_port}")
    run()
    assert factory.posted == []
    run("--post")
    assert {hashlib.sha256(body).hexdigest() for body in factory.posted} == {RK1, CM4}
    assert len(factory.posted) == 2


@pytest.mark.parametrize("factory", [400], indirect=True)
def test_a_refusal_is_one_line(lab: Any, factory: Factory) -> None:
    lab(factory=f"http://127.110.9.1:{factory.server_port}")
    done = CliRunner().invoke(app, ["image", "--stack", "homelab", "--post"])
    assert done.exit_code == 1
    assert "400 no such extension; check cluster.talos.extensions" in done.output
