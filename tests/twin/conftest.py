"""A twin of its own for the tests of the twin: real processes, spoken to over their sockets."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from twin.image import Image, make

ROOT = Path(__file__).parents[2]
IMAGE_BYTES = 256 << 10


class Bench:
    """A running twin and what a test needs to look at it."""

    def __init__(self, lab: dict[str, Any], state: Path) -> None:
        self.lab = lab
        self.state = state
        self.clients: list[httpx2.Client] = []
        self.file = state.parent / f"{state.name}.yaml"
        self.file.write_text(yaml.safe_dump(lab))

    def run(self, *words: str, check: bool = True) -> str:
        command = [sys.executable, "-m", "twin", *words, "--state", str(self.state)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"{words}: {done.stderr}\n{self.log()}")
        return done.stdout + done.stderr

    def up(self) -> str:
        return self.run("up", "--lab", str(self.file))

    def down(self) -> str:
        return self.run("down")

    def control(self, **command: Any) -> Any:
        record = json.loads((self.state / "twin.json").read_bytes())
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(record["control"])
            connection.sendall(json.dumps(command).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
        assert answer["ok"], answer
        return answer["result"]

    def fault(self, name: str, **fault: Any) -> None:
        place = {key: fault.pop(key) for key in ("node", "board", "times", "at") if key in fault}
        self.control(command="fault", fault={"name": name, **place, "params": fault})

    def module(self, board: str, name: str) -> dict[str, Any]:
        status = self.control(command="status")
        return dict(status["boards"][board]["modules"][name])

    def events(self, kind: str, node: str | None = None) -> list[dict[str, Any]]:
        lines = (self.state / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in lines]
        return [event for event in events if event["kind"] == kind and node in (None, event.get("node"))]

    def log(self) -> str:
        return (self.state / "twin.log").read_text()

    def url(self, board: str) -> str:
        spec = self.lab["boards"][board]
        scheme = "http" if spec.get("firmware", "v2").startswith("v1") else "https"
        return f"{scheme}://{spec['address']}:{spec['port']}"

    def client(self, board: str, **options: Any) -> httpx2.Client:
        options.setdefault("auth", ("root", "turing"))
        options.setdefault("base_url", self.url(board))
        options.setdefault("timeout", 20)
        client = httpx2.Client(verify=False, **options)
        self.clients.append(client)
        return client

    def image(self, body_bytes: int = IMAGE_BYTES) -> bytes:
        """The raw bytes of an image, made by the twin's own factory code."""
        return b"".join(make(Image("0" * 64, "v1.13.9", "arm64", "turingrk1"), body_bytes))


def wait(what: Callable[[], Any], timeout_s: float = 10) -> Any:
    """The first true answer of `what`."""
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        if seen := what():
            return seen
        time.sleep(0.02)
    raise AssertionError(f"not within {timeout_s} s: {what}")


@pytest.fixture(name="wait")
def _wait() -> Callable[..., Any]:
    return wait


@pytest.fixture(scope="session")
def network() -> str:
    """The first three numbers of addresses that no other test process uses."""
    return f"127.103.{(os.getpid() + random.randrange(3)) % 250}"


def board(network: str, number: int, prefix: str, **spec: Any) -> dict[str, Any]:
    slots = {
        slot: {
            "name": f"{prefix}{slot}",
            "mac": f"02:00:00:{number:02x}:00:{slot:02x}",
            "address": f"{network}.{100 + number * 4 + slot}",
        }
        for slot in (1, 2)
    }
    return {"address": f"{network}.{60 + number}", "port": 8443, "slots": slots, **spec}


@pytest.fixture(scope="session")
def make_lab(network: str) -> Callable[..., dict[str, Any]]:
    """A lab file's content: boards by name with their firmware."""

    def make(boards: dict[str, dict[str, Any]], **lab: Any) -> dict[str, Any]:
        made = {name: board(network, number, name, **spec) for number, (name, spec) in enumerate(boards.items())}
        factory = {"address": f"{network}.2", "port": 8080, "image_bytes": IMAGE_BYTES}
        base = {"name": "test", "scale": 0.002, "operating_system": "none", "subnet": f"{network}.0/24"}
        return {**base, "factory": factory, "boards": made, **lab}

    return make


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest, make_lab: Callable[..., Any], tmp_path_factory: Any) -> Iterator[Bench]:
    """One twin for the tests of a module; its boards are the module's BOARDS."""
    lab = make_lab(request.module.BOARDS, **getattr(request.module, "LAB", {}))
    running = Bench(lab, tmp_path_factory.mktemp("twin") / "state")
    running.up()
    yield running
    for client in running.clients:
        client.close()
    log = running.log()
    running.down()
    assert "Traceback" not in log, log
