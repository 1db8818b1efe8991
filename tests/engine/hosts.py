"""A lab of Linux hosts for a test: a copy of the program, hosts that the twin plays, its own state.

The engine is called directly, as `homelab` would start a twin of boards.
"""

from __future__ import annotations

import json
import random
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import yaml

from tests.engine.sandbox import ROOT, Run, Sandbox

PORT = 2222
VERSION = "v1.36.1+k3s1"
SCALE = "0.2"  # real seconds for each that a device would take


def free_prefix() -> str:
    """The first three numbers of a loopback /24 on which nothing listens."""
    while True:
        prefix = f"127.{random.randint(100, 199)}.{random.randint(1, 254)}"
        with socket.socket() as probe:
            probe.settimeout(0.2)
            if probe.connect_ex((f"{prefix}.11", PORT)) != 0:
                return prefix


@dataclass
class HostsLab:
    """Some hosts, h1, h2, ... at PREFIX.11, .12, ..., in one k3s cluster named garage."""

    folder: Path
    servers: int = 1
    agents: int = 1
    prefix: str = field(default_factory=free_prefix)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)  # host -> what is special in the twin
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)  # host -> what is special in the settings
    k3s: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sandbox = Sandbox(self.folder)
        self.names = [f"h{number}" for number in range(1, self.servers + self.agents + 1)]
        self._key = asyncssh.generate_private_key("ssh-ed25519")

    def prepare(self) -> HostsLab:
        """Copy the program, start the hosts, write the settings."""
        self.sandbox.prepare()
        self.sandbox.write("hosts.yaml", yaml.safe_dump(self.lab()))
        self.twin("up", "--lab", str(self.folder / "hosts.yaml"))
        self.write_settings()
        self.engine("stack", "init", "twin", stack=False)
        key = self._key.export_private_key().decode()
        self.engine("config", "set", "--path", "homelab:clusters.garage.ssh.key", "--secret", given=key)
        return self

    def lab(self) -> dict[str, Any]:
        """The twin's lab file."""
        hosts = {
            name: {"address": self.address(name), "memory_cgroup": True, **self.specs.get(name, {})}
            for name in self.names
        }
        return {"authorized": self._key.export_public_key().decode().strip(), "hosts": hosts}

    def address(self, name: str) -> str:
        """A host's address."""
        return f"{self.prefix}.{10 + int(name[1:])}"

    def write_settings(self, **changed: dict[str, Any]) -> None:
        """The stack's file: what was given, and `changed` for single hosts. The key of SSH stays where it is."""
        path = self.folder / "Pulumi.twin.yaml"
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings = {**self.beside(before["config"]), "homelab:clusters": self.clusters(before["config"])}
        settings["homelab:hosts"] = {name: self._host(name, changed.get(name, {})) for name in self.names}
        salt = {key: value for key, value in before.items() if key == "encryptionsalt"}
        path.write_text(yaml.safe_dump({**salt, "config": settings}), encoding="utf-8")

    def beside(self, before: dict[str, Any]) -> dict[str, Any]:
        """What the settings hold besides hosts and their clusters: nothing of Talos."""
        return {
            "homelab:cluster": {
                "endpoint": {"vip": f"{self.prefix}.250"},
                "talos": {"version": "v1.13.9"},
                "kubernetes": {"version": "v1.36.1"},
            },
            "homelab:boards": {},
            "homelab:nodes": {},
        }

    def clusters(self, before: dict[str, Any]) -> dict[str, Any]:
        """Their clusters; the keys of SSH are taken from the settings before."""
        ssh = before.get("homelab:clusters", {}).get("garage", {}).get("ssh", {})
        garage: dict[str, Any] = {"k3s": {"version": VERSION, **self.k3s}, "ssh": {**ssh, "port": PORT}}
        if self.servers > 1:
            garage["endpoint"] = {"vip": f"{self.prefix}.5"}
        return {"garage": garage}

    def _host(self, name: str, changed: dict[str, Any]) -> dict[str, Any]:
        role = "controlplane" if int(name[1:]) <= self.servers else "worker"
        pinned = (self.state_folder / name / "host_key.pub").read_text().split()[:2]
        host = {"cluster": "garage", "role": role, "address": self.address(name), "ssh": {"host_key": " ".join(pinned)}}
        return {**host, **self.hosts.get(name, {}), **changed}

    @property
    def state_folder(self) -> Path:
        """The twin's folder."""
        return self.folder / "hosts"

    def twin(self, verb: str, *arguments: str) -> str:
        """A command of the twin; gives what it printed."""
        environment = {**self.environment(), "PYTHONPATH": str(self.folder)}
        done = subprocess.run(
            [sys.executable, "-m", "twin.hosts", verb, *arguments, "--state", str(self.state_folder)],
            cwd=self.folder, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise AssertionError(f"twin {verb} {arguments}: {done.stdout}{done.stderr}")
        return done.stdout

    def environment(self) -> dict[str, str]:
        """That of the sandbox, with the engine's."""
        from tools import paths

        given = self.sandbox.environment() | {"HOMELAB_TIME_SCALE": SCALE}
        return paths.environment("twin", self.folder, given)

    def engine(self, *arguments: str, stack: bool = True, given: str | None = None, limit_s: float = 400) -> Run:
        """A command of the engine."""
        chosen = ["--stack", "twin"] if stack else []
        done = subprocess.run(
            ["pulumi", *arguments, *chosen, "--non-interactive"],
            cwd=self.folder, env=self.environment(), capture_output=True, text=True, timeout=limit_s, input=given,
        )  # fmt: skip
        return Run(done.returncode, done.stdout + done.stderr)

    def up(self, *arguments: str) -> Run:
        """`pulumi up`."""
        return self.engine("up", "--yes", "--skip-preview", *arguments)

    def begin(self) -> subprocess.Popen[bytes]:
        """An `up` in a process group of its own."""
        with (self.folder / "run.log").open("ab") as log:
            return subprocess.Popen(
                ["pulumi", "up", "--yes", "--skip-preview", "--stack", "twin", "--non-interactive"],
                cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def kill(self, run: subprocess.Popen[bytes]) -> None:
        """SIGKILL to the whole run; the stack is free again afterwards."""
        import os

        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        time.sleep(1)  # the provider's process sees that its engine is gone
        self.engine("cancel", "--yes")

    def unchanged(self) -> Run:
        """A preview that fails when anything would change."""
        return self.engine("preview", "--expect-no-changes")

    def take_out(self, name: str) -> Run:
        """What `homelab destroy-target` does."""
        targets = ["--target", f"**::{name}", "--target", f"**::{name}-*"]
        return self.engine("destroy", "--yes", "--skip-preview", *targets, "--target-dependents")

    def resources(self) -> set[str]:
        """The names in the state."""
        exported = json.loads(self.engine("stack", "export").output)
        return {item["urn"].rsplit("::", 1)[-1] for item in exported["deployment"].get("resources") or []}

    def kubeconfig(self) -> str:
        """The cluster's, out of the stack's outputs."""
        found = json.loads(self.engine("stack", "output", "--json", "--show-secrets").ok().output)
        return str(found["kubeconfigs"]["garage"])

    def events(self, kind: str) -> list[dict[str, Any]]:
        """What the twin saw happen, in order."""
        lines = (self.state_folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["kind"] == kind]

    def happened(self, kind: str) -> list[str]:
        """On which hosts something happened, in order."""
        return [event.get("node", "") for event in self.events(kind)]

    def file(self, name: str, path: str) -> Path:
        """A file of a host."""
        return self.state_folder / name / "root" / path.lstrip("/")

    def end(self) -> None:
        """End the hosts."""
        self.twin("down")


def plain(text: str) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


__all__ = ["ROOT", "HostsLab", "plain"]
