"""Runs the `pulumi` command for one stack, with the project's private tools and state."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import locks, run_log
from cli.stacks import Stack
from providers.deadline import Deadline
from providers.errors import HomelabError, RefusedError, UserError
from tools import paths

QUERY_S = 120.0
DYING_S = 3.0
PASSPHRASE = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
PUT_IT = "put the passphrase of the stack's secrets into .homelab/passphrase (chmod 600)"


@dataclass(frozen=True)
class Resource:
    """A resource of the stack's state. The name is the URN's last part."""

    urn: str
    type: str
    parent: str = ""

    @property
    def name(self) -> str:
        """What the program called it."""
        return self.urn.rsplit("::", 1)[-1]

    @property
    def is_node(self) -> bool:
        """Whether it is one of the lab's node components, not a Kubernetes Node."""
        return self._component == "Node"

    @property
    def is_part(self) -> bool:
        """Whether it is a part of the platform, which can be taken out by itself."""
        return self._component not in ("", "Node", "ControlPlane")

    @property
    def _component(self) -> str:
        parts = self.type.split(":")
        return parts[-1] if parts[0] == locks.PROJECT else ""


class Engine:
    """One stack's engine.

    Args:
        stack: which.
        environment: the engine's whole environment; by default the project's private tools, state and passphrase.
    """

    def __init__(self, stack: Stack, environment: Mapping[str, str] | None = None) -> None:
        self.stack = stack
        self.environment = dict(environment or paths.environment(stack.name))
        if stack.is_twin:
            self.environment.setdefault("HOMELAB_TIME_SCALE", str(stack.time_scale))

    @property
    def executable(self) -> str:
        """Where pulumi is.

        Raises:
            UserError: nowhere; says how to get it.
        """
        found = shutil.which("pulumi", path=self.environment.get("PATH"))
        if found is None:
            raise UserError("the Pulumi engine is not installed; `make up` installs it")
        return found

    def require_passphrase(self) -> None:
        """Stop before pulumi does, which does not say where the passphrase goes.

        Raises:
            UserError: the stack's secrets need one, and none is given.
        """
        given = any(key in self.environment for key in PASSPHRASE)
        kept_elsewhere = locks.backend_folder(self.environment) is None
        other_provider = "secretsprovider:" in self.stack.settings_file.read_text(encoding="utf-8")
        if not (given or kept_elsewhere or other_provider):
            raise UserError(f"stack {self.stack.name}: no passphrase is given; {PUT_IT}")

    def select(self) -> None:
        """Make the stack exist and be the current one; a lock that nobody holds any more is released, with a word."""
        self.release_lock()
        folder = locks.backend_folder(self.environment)
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
        self._ask("stack", "select", "--create", self.stack.name)

    def release_lock(self) -> None:
        """See `cli.locks`; an engine that is being killed just now is given the moment that this takes."""
        folder = locks.backend_folder(self.environment)
        if folder is None:
            return
        for sentence in _released(folder, self.stack.name, Deadline(DYING_S)):
            print(sentence, file=sys.stderr)

    def run(self, verb: str, *arguments: str) -> int:
        """Run a verb in front of the user's eyes: pulumi's own display, questions and colours. See `cli.run_log`.

        Returns:
            Its exit code.
        """
        executable = self.executable
        # The terminal tells pulumi of a Ctrl-C as well, and pulumi needs time to end well.
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            with run_log.recorded(self.stack, verb) as record:
                command = [executable, verb, "--stack", self.stack.name, *record.options, *arguments]
                record.code = subprocess.call(command, cwd=self.stack.root, env=self.environment | run_log.SWITCH)
                return record.code
        finally:
            signal.signal(signal.SIGINT, before)

    def outputs(self) -> dict[str, Any]:
        """What the program exported, secrets in plain; empty before the first `up`."""
        return self._document("stack", "output", "--show-secrets", "--json", "--stack", self.stack.name)

    def config(self) -> dict[str, Any]:
        """The stack's configuration with its secrets in plain, as the program gets it: key -> object."""
        raw = self._document("config", "--show-secrets", "--json", "--stack", self.stack.name)
        return {key: _value(entry) for key, entry in raw.items()}

    def set_secret(self, path: str, value: str) -> None:
        """Store a secret of the program's config in the settings file, encrypted with the stack's passphrase."""
        key = f"{locks.PROJECT}:{path}"
        self._ask("config", "set", "--secret", "--path", key, "--stack", self.stack.name, given=value)

    def resources(self) -> list[Resource]:
        """What the stack's state holds."""
        deployment = self._document("stack", "export", "--stack", self.stack.name).get("deployment") or {}
        return [
            Resource(item["urn"], item["type"], item.get("parent", "")) for item in deployment.get("resources") or ()
        ]

    def deployment(self) -> list[dict[str, Any]]:
        """The resources of the stack's state with all that they hold, secrets in plain; none before the first `up`."""
        whole = self._document("stack", "export", "--show-secrets", "--stack", self.stack.name)
        return list((whole.get("deployment") or {}).get("resources") or ())

    def remove(self) -> None:
        """Forget the stack, its state and history, whatever it still lists; its settings file stays."""
        folder = locks.backend_folder(self.environment)
        if folder and not (folder / ".pulumi" / "stacks" / locks.PROJECT / f"{self.stack.name}.json").exists():
            return  # asked of the file, as there may be no engine either
        try:
            self._ask("stack", "rm", "--force", "--yes", "--preserve-config", self.stack.name)
        except HomelabError as exc:
            if "no stack named" not in str(exc):
                raise

    def _document(self, *arguments: str) -> dict[str, Any]:
        try:
            document = json.loads(self._ask(*arguments))
        except ValueError as exc:
            raise HomelabError(f"pulumi {arguments[0]}: gave no JSON ({exc})") from None
        return document if isinstance(document, dict) else {}

    def _ask(self, *arguments: str, given: str | None = None) -> str:
        """Run a quiet command to its end; `given` is its standard input.

        Raises:
            HomelabError: it failed; in its own words.
        """
        command = [self.executable, *arguments, "--non-interactive", "--color", "never"]
        try:
            done = subprocess.run(
                command,
                cwd=self.stack.root,
                env=self.environment,
                capture_output=True,
                input=given,
                text=True,
                timeout=QUERY_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise HomelabError(f"pulumi {' '.join(arguments[:2])}: not done within {QUERY_S:.0f} s") from None
        if done.returncode != 0:
            raise HomelabError(f"pulumi {' '.join(arguments[:2])}: {_reason(done.stderr or done.stdout)}")
        return done.stdout


def _released(folder: Path, stack: str, deadline: Deadline) -> list[str]:
    while True:
        try:
            return locks.release_stale(folder, stack)
        except RefusedError:
            if deadline.expired:
                raise
            deadline.sleep(0.2)


def _value(entry: Mapping[str, Any]) -> Any:
    """One entry of `pulumi config --json`: objects come parsed, and as text in older engines."""
    if "objectValue" in entry:
        return entry["objectValue"]
    text = entry.get("value", "")
    try:
        return json.loads(text) if text[:1] in ("{", "[") else text
    except ValueError:
        return text


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("error:").strip() for line in lines if line.startswith("error:")]
    reason = (errors or lines or ["it gave no reason"])[0]
    return reason + (f"; {PUT_IT}" if "passphrase" in reason else "")
