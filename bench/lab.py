"""Labs of any size for measuring: a copy of the program with settings and simulated hardware written for it."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.hollow import ANSWERS_AT_ONCE
from tests.engine.sandbox import ROOT, Run, Sandbox
from tools import paths

SLOTS = 4
CONTROL_PLANES = 3
RUN_LIMIT_S = 1500.0


def free_network() -> str:
    """The first two numbers of a loopback /16 on which nothing listens."""
    while True:
        network = f"127.{random.randint(128, 250)}"
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex((f"{network}.250.1", 8443)) != 0:
                return network


@dataclass
class BenchLab(Sandbox):
    """A lab with `nodes` nodes, four on each board; its three control planes are on three boards, if there are so many.

    Attributes:
        nodes: how many.
        scale: real seconds for a device second.
        instant: every device time is zero.
        hollow: no twin: the providers' creates answer at once with what a real one would store.
    """

    prefix: str = field(default_factory=free_network)
    nodes: int = 4
    scale: float = 0.05
    instant: bool = False
    hollow: bool = False

    def prepare(self) -> BenchLab:
        """Copy the program and write its settings and its hardware."""
        super().prepare()
        shipped = yaml.safe_load((ROOT / "twin/labs/four.yaml").read_text(encoding="utf-8"))
        self.write("twin/labs/four.yaml", yaml.safe_dump(self._hardware(shipped)))
        self.settle()
        if self.hollow:
            for name, text in ANSWERS_AT_ONCE.items():
                self.write(name, (self.folder / name).read_text(encoding="utf-8") + text)
        return self

    def settle(self) -> None:
        """Write the settings, with the shipped platform where `platform` says so."""
        stack = yaml.safe_load((ROOT / "Pulumi.twin.yaml").read_text(encoding="utf-8"))
        self.write(self.settings, yaml.safe_dump(self._settings(stack)))

    def _hardware(self, shipped: dict[str, Any]) -> dict[str, Any]:
        times = dict.fromkeys(shipped["times"], 0) if self.instant else shipped["times"]
        board = {key: value for key, value in shipped["boards"]["board1"].items() if key != "slots"}
        boards = {
            f"board{number}": {**board, "address": self._board(number), "slots": self._slots(number)}
            for number in range(1, self.boards + 1)
        }
        factory = {**shipped["factory"], "address": f"{self.prefix}.0.2"}
        where = {"subnet": f"{self.prefix}.0.0/16", "factory": factory, "boards": boards}
        return {**shipped, **where, "scale": self.scale, "times": times}

    def _slots(self, board: int) -> dict[int, dict[str, Any]]:
        first = (board - 1) * SLOTS
        return {
            slot: {"name": f"m{first + slot}", "mac": _mac(first + slot), "address": self.address(first + slot)}
            for slot in range(1, SLOTS + 1)
            if first + slot <= self.nodes
        }

    def _settings(self, stack: dict[str, Any]) -> dict[str, Any]:
        config = stack["config"]
        platform = config.pop("homelab:platform")
        if self.platform:
            config["homelab:platform"] = self._moved(platform)
        cluster, password = config["homelab:cluster"], config["homelab:boards"]["board1"]["password"]
        cluster["endpoint"] = {"vip": f"{self.prefix}.0.10"}
        cluster["talos"]["factory"] = f"http://{self.prefix}.0.2:8080"
        cluster["network"] = {"subnet": f"{self.prefix}.0.0/16"}
        config["homelab:boards"] = {
            f"board{number}": {"address": f"{self._board(number)}:8443", "password": password}
            for number in range(1, self.boards + 1)
        }
        config["homelab:nodes"] = {f"node{number}": self._node(number) for number in range(1, self.nodes + 1)}
        return stack

    def _moved(self, section: dict[str, Any]) -> dict[str, Any]:
        """A section of the shipped settings, on addresses of this lab."""
        text = re.sub(r"127\.\d+\.\d+(?=\.\d)", f"{self.prefix}.0", yaml.safe_dump(section))
        return dict(yaml.safe_load(text))

    def _node(self, number: int) -> dict[str, Any]:
        board, slot = (number - 1) // SLOTS + 1, (number - 1) % SLOTS + 1
        return {
            "role": "controlplane" if number in self._leading() else "worker",
            "address": self.address(number),
            "mac": _mac(number),
            "machine": {"board": f"board{board}", "slot": slot},
            "generation": 1,
        }

    def _leading(self) -> tuple[int, ...]:
        """The control planes: the first slots of three boards, or of the one there is."""
        spread = SLOTS if self.boards >= CONTROL_PLANES else 1
        return tuple(1 + index * spread for index in range(CONTROL_PLANES))

    @property
    def boards(self) -> int:
        """How many boards the nodes need."""
        return -(-self.nodes // SLOTS)

    def address(self, node: int) -> str:
        """A node's address, by its number from 1."""
        return f"{self.prefix}.{1 + node // 200}.{1 + node % 200}"

    def _board(self, number: int) -> str:
        return f"{self.prefix}.250.{number}"

    @property
    def hardware(self) -> dict[str, Any]:
        """The lab file."""
        return dict(yaml.safe_load((self.folder / "twin/labs/four.yaml").read_text(encoding="utf-8")))

    @property
    def board_password(self) -> str:
        """What the simulated boards let in."""
        return str(self.hardware["boards"]["board1"]["password"])

    def start_twin(self) -> None:
        """Start the twin before anything is measured: a real lab is there already."""
        lab = str(self.folder / "twin/labs/four.yaml")
        self.twin("up", "--lab", lab, "--tools", str(paths.servers()))

    def timed(self, *arguments: str) -> float:
        """The seconds that a verb takes; it has to succeed."""
        began, process = time.monotonic(), self.start(*arguments)
        try:
            code = process.wait(RUN_LIMIT_S)
        except BaseException:  # a Ctrl-C is for all of it
            self.kill(process)
            raise
        Run(code, self.said()).ok()
        return time.monotonic() - began

    def engine(self) -> Engine:
        """The bare engine on this copy's program."""
        return Engine(self.folder, {"HOMELAB_TIME_SCALE": "0"})


def _mac(number: int) -> str:
    return f"02:00:00:63:{number >> 8:02x}:{number & 255:02x}"


@dataclass(frozen=True)
class Engine:
    """The `pulumi` command on a program's folder, without the `homelab` command around it."""

    folder: Path
    extra: dict[str, str] = field(default_factory=dict)

    def create(self) -> Engine:
        """Make the stack, with the twin's passphrase."""
        self.run("stack", "select", "--create", "twin")
        return self

    def run(self, *arguments: str) -> Run:
        """A command that has to succeed."""
        environment = paths.environment("twin", self.folder)
        environment |= {"PATH": f"{ROOT}/.venv/bin:{environment['PATH']}", **self.extra}
        environment["PULUMI_PYTHON_CMD"] = f"{ROOT}/.venv/bin/python"
        done = subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            executable=str(paths.pulumi_bin() / "pulumi"),
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )
        return Run(done.returncode, done.stdout).ok()

    def timed(self, *arguments: str) -> float:
        """The seconds that a command takes."""
        began = time.monotonic()
        self.run(*arguments, "--stack", "twin")
        return time.monotonic() - began

    def state_bytes(self) -> int:
        """How big the stack's state is: the file backend writes all of it at every step."""
        return len(self.run("stack", "export", "--stack", "twin").output)

    def resources(self) -> int:
        """How many resources the state holds."""
        exported = json.loads(self.run("stack", "export", "--stack", "twin").output)
        return len(exported["deployment"]["resources"])
