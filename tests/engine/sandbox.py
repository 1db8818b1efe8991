"""A lab of its own for a test: a copy of the program, a twin on addresses nobody else uses, its own state.

Nothing is imported from the twin: what it did is read from its event log, what it is from its command.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAM = (
    "__main__.py",
    "Pulumi.yaml",
    "cli",
    "components",
    "drift",
    "images",
    "policy",
    "providers",
    "settings",
    "tools",
    "twin",
    "requirements.txt",
)
UP_LIMIT_S = 400.0
GROUPS = {("state",)}  # verbs of two words


def free_prefix() -> str:
    """The first three numbers of a loopback /24 on which nothing listens."""
    while True:
        prefix = f"127.{random.randint(20, 99)}.{random.randint(1, 254)}"
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex((f"{prefix}.60", 8443)) != 0:
                return prefix


@dataclass
class Run:
    """A finished command."""

    code: int
    output: str

    def ok(self) -> Run:
        """Fail the test with the command's own words unless it succeeded."""
        if self.code != 0:
            raise AssertionError(f"exit code {self.code}\n{self.output[-6000:]}")
        return self


@dataclass
class Sandbox:
    """One lab under one folder."""

    folder: Path
    stack: str = "twin"
    lab: str = "four"
    prefix: str = field(default_factory=free_prefix)
    time_scale: str = ""  # real seconds for one of a device; the lab's own where it is not given
    platform: bool = False  # what runs on the cluster takes minutes, and most tests are about the nodes
    two: bool = False  # node1 and node4 alone, a control plane and a worker: half the time, where that is enough

    def prepare(self) -> Sandbox:
        """Copy the program, and move the shipped settings and lab to addresses of this test's own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        skip = shutil.ignore_patterns("__pycache__")
        for name in PROGRAM:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.folder / name, ignore=skip)
            else:
                shutil.copy2(ROOT / name, self.folder / name)
        (self.folder / ".venv").symlink_to(ROOT / ".venv")
        for name in (f"Pulumi.{self.stack}.yaml", f"twin/labs/{self.lab}.yaml"):
            text = (ROOT / name).read_text(encoding="utf-8")
            if not self.platform:
                text = text.split("  homelab:platform:\n")[0]  # the last section
            if self.two:
                text = re.sub(r"    node[23]:\n(      .*\n)+", "", text)
            self.write(name, re.sub(r"127\.\d+\.\d+(?=\.\d)", self.prefix, text))
        return self

    def write(self, name: str, text: str) -> None:
        """Write one of the copy's files."""
        (self.folder / name).write_text(text, encoding="utf-8")

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the only place where `old` stands in one of the copy's files."""
        text = (self.folder / name).read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise AssertionError(f"{name}: {old!r} stands {text.count(old)} times")
        self.write(name, text.replace(old, new))

    @property
    def settings(self) -> str:
        """The name of the settings file."""
        return f"Pulumi.{self.stack}.yaml"

    def environment(self) -> dict[str, str]:
        """The test's environment, with locks and temporary files of its own."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PULUMI_", "HOMELAB_STACK"))}
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        scale = {"HOMELAB_TIME_SCALE": self.time_scale} if self.time_scale else {}
        return {**kept, **scale, "TMPDIR": str(temporary), "PYTHONPATH": str(self.folder), "COLUMNS": "160"}

    def command(self, *arguments: str) -> list[str]:
        """A verb's command line."""
        verb = 2 if arguments[:1] in GROUPS else 1
        return [sys.executable, "-m", "cli.main", *arguments[:verb], "--stack", self.stack, *arguments[verb:]]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Begin a verb in a process group of its own; its output goes to `run.log`."""
        with (self.folder / "run.log").open("a", encoding="utf-8") as log:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )

    def run(self, *arguments: str, limit_s: float = UP_LIMIT_S) -> Run:
        """Run a verb to its end."""
        log = self.folder / "run.log"
        begin = log.stat().st_size if log.exists() else 0
        process = self.start(*arguments)
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill(process)
            raise AssertionError(f"{arguments} did not end within {limit_s} s\n{self.said(begin)[-6000:]}") from None
        return Run(code, self.said(begin))

    def said(self, begin: int = 0) -> str:
        """What all verbs have printed, from a byte offset on."""
        log = self.folder / "run.log"
        return log.read_bytes()[begin:].decode(errors="replace") if log.exists() else ""

    def up(self, *arguments: str) -> Run:
        """`homelab up`."""
        return self.run("up", "--yes", *arguments)

    def preview_unchanged(self) -> Run:
        """A preview that fails when anything would change."""
        return self.run("preview", "--", "--expect-no-changes")

    @staticmethod
    def kill(process: subprocess.Popen[str]) -> None:
        """SIGKILL to the whole run: the command, the engine, and whatever is in their group."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def status(self) -> dict[str, Any]:
        """`homelab status --json`."""
        done = subprocess.run(
            self.command("status", "--json"),
            cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return dict(json.loads(done.stdout))

    def twin(self, *arguments: str) -> str:
        """A command of the twin; gives what it printed."""
        verb, *rest = arguments
        done = subprocess.run(
            [sys.executable, "-m", "twin", verb, "--state", str(self.twin_state), *rest],
            cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise AssertionError(f"twin {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    @property
    def twin_state(self) -> Path:
        """The twin's folder."""
        return self.folder / ".homelab" / "twin" / self.lab

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What the twin saw happen, in order."""
        path = self.twin_state / "events.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        found = [json.loads(line) for line in lines]
        return [event for event in found if kind in (None, event["kind"])]

    def count(self, kind: str) -> Counter[str]:
        """How often something happened to each module."""
        return Counter(event.get("node", "") for event in self.events(kind))

    def pulumi(self, *arguments: str) -> str:
        """A raw engine command on the copy's stack."""
        code = (
            "import os, sys; from tools import paths; e = paths.environment(sys.argv[1]);"
            "os.execvpe(sys.argv[2], sys.argv[2:], e)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, self.stack, "pulumi", *arguments, "--stack", self.stack, "--non-interactive"],
            cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise AssertionError(f"pulumi {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def state(self) -> list[dict[str, Any]]:
        """The resources of the stack's state."""
        deployment = json.loads(self.pulumi("stack", "export"))["deployment"]
        return list(deployment.get("resources") or [])

    def names(self) -> set[str]:
        """The names of the resources in the stack's state."""
        return {item["urn"].rsplit("::", 1)[-1] for item in self.state()}

    def end(self) -> None:
        """End the twin, whatever state the test left it in."""
        if self.twin_state.exists():
            self.twin("down")
