"""Runs the `pulumi` command for one stack, with the project's private tools and state."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cli import backends, locks, run_log, running
from cli.backends import Backend
from cli.stacks import Stack
from providers.deadline import Deadline
from providers.errors import HomelabError, RefusedError, UserError

QUERY_S = 120.0
DYING_S = 3.0
PASSPHRASE = ("PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE")
PUT_IT = backends.HINTS["passphrase"]
CLOUDS = "an update that Pulumi Cloud says is going on"


@dataclass(frozen=True)
class Pending:
    """A step that was cut off.

    Attributes:
        name: the resource's.
        doing: "creating", "updating", "deleting", "reading" or "importing".
    """

    name: str
    doing: str


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
        return self.component == "Node"

    @property
    def is_part(self) -> bool:
        """Whether it is something else that can be taken out by itself: a host, a part of the platform, a tenant."""
        return self.component not in ("", "Node", "ControlPlane")

    @property
    def component(self) -> str:
        """The kind of component that it is; "" where it is none of the program's."""
        parts = self.type.split(":")
        return parts[-1] if parts[0] == locks.PROJECT else ""


class Engine:
    """One stack's engine.

    Args:
        stack: which.
        environment: the engine's whole environment; by default the project's private tools and passphrase, and the
            state where its owner wants it.
    """

    def __init__(self, stack: Stack, environment: Mapping[str, str] | None = None) -> None:
        self.stack = stack
        self.environment = dict(environment or backends.environment(stack))
        if stack.is_twin:
            self.environment.setdefault("HOMELAB_TIME_SCALE", str(stack.time_scale))

    @property
    def backend(self) -> Backend:
        """Where the stack's state is kept."""
        return backends.of(self.environment, self.stack.root)

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
        settings = self.stack.settings_file.read_text(encoding="utf-8")
        clouds_own = self.backend.is_cloud and "encryptionsalt:" not in settings
        if not (given or clouds_own or "secretsprovider:" in settings):
            raise UserError(f"stack {self.stack.name}: no passphrase is given; {PUT_IT}")

    def select(self) -> None:
        """Make the stack exist and be the current one; a lock that nobody holds any more is released, with a word."""
        self.release_lock()
        if folder := self.backend.folder:
            folder.mkdir(parents=True, exist_ok=True)
        self._ask("stack", "select", "--create", self.stack.name)

    def release_lock(self) -> None:
        """See `cli.locks`; an engine that is being killed just now is given the moment that this takes.

        Raises:
            RefusedError: another run holds the stack; names it, and says what to type.
        """
        for sentence in self._released_within(Deadline(DYING_S)):
            print(sentence, file=sys.stderr)

    def exists(self) -> bool:
        """Whether the backend has the stack. Nothing is locked or made.

        Raises:
            HomelabError: the backend does not answer, or refuses; in its own words.
        """
        return bool(self._listed())

    def holders(self) -> list[str]:
        """Who holds the stack, in words, dead or alive."""
        if self.backend.is_cloud:
            return [CLOUDS] if self._cloud_is_busy() else []
        return [lock.holder for lock in self._locks()]

    def refuse_running(self) -> None:
        """Stop when a run that may be alive holds the stack. Nothing is released.

        Raises:
            RefusedError: one does; names it, and says what to type.
        """
        self._refuse(self._locks())

    def _locks(self) -> list[locks.Lock]:
        folder = self.backend.folder
        if folder:
            return locks.locks(folder, self.stack.name)
        return [] if self.backend.is_cloud else self._locks_in_bucket()

    def unlock(self) -> None:
        """Take every lock off the stack, whoever holds it. With a run that still goes on, its state may be damaged."""
        self._ask("cancel", "--yes", self.stack.name)

    def _released_within(self, deadline: Deadline) -> list[str]:
        while True:
            try:
                return self._released()
            except RefusedError:
                if deadline.expired:
                    raise
                deadline.sleep(0.2)

    def _released(self) -> list[str]:
        name, folder = self.stack.name, self.backend.folder
        if folder:
            return locks.release_stale(folder, name)
        found = [] if self.backend.is_cloud else self._locks_in_bucket()
        self._refuse(found)
        if found:
            self.unlock()
        return [locks.released(lock) for lock in found]

    def _refuse(self, found: Sequence[locks.Lock]) -> None:
        name = self.stack.name
        if self.backend.is_cloud and self._cloud_is_busy():
            raise RefusedError(f"stack {name} is locked by {CLOUDS}; {locks.way_out(name)}")
        here, ours = socket.gethostname(), running.last(self.stack)
        known = self.backend.folder is not None  # in a bucket, a lock of this host's name may be another machine's
        gone = [lock for lock in found if lock.stale(locks.is_pulumi, here) and (known or lock.left_by(ours))]
        locks.refuse_held(name, [lock for lock in found if lock not in gone])

    def _locks_in_bucket(self) -> list[locks.Lock]:
        """Making the stack is what takes the lock first and changes nothing when the stack is there."""
        done = self._tried("stack", "init", self.stack.name, "--no-select")
        if done.returncode == 0 or "already exists" in done.stderr:
            return []
        if found := locks.told(done.stderr):
            return found
        raise HomelabError(f"pulumi stack init: {_reason(done.stderr or done.stdout)}")

    def _cloud_is_busy(self) -> bool:
        return any(one.get("updateInProgress") for one in self._listed())

    def _listed(self) -> list[dict[str, Any]]:
        """The stack as the backend lists it; organizations stand before its name."""
        listed = json.loads(self._ask("stack", "ls", "--json"))
        return [one for one in listed if one["name"].split("/")[-1] == self.stack.name]

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
                record.code = running.call(self.stack, verb, command, self.environment | run_log.SWITCH)
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

    def export(self) -> str:
        """The stack's state as the engine gives it: JSON, secrets encrypted."""
        return self._ask("stack", "export", "--stack", self.stack.name)

    def replace(self, state: str) -> None:
        """Put an exported state in place of the present one. The engine refuses another stack's, and a held lock."""
        self._ask("stack", "import", "--stack", self.stack.name, given=state)

    def pending(self) -> list[Pending]:
        """What a run was doing when it was cut off, as the state has it."""
        deployment = json.loads(self.export()).get("deployment") or {}
        return pending(deployment)

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
        folder = self.backend.folder
        if folder and not any((folder / ".pulumi" / "stacks" / locks.PROJECT).glob(f"{self.stack.name}.json*")):
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
        done = self._tried(*arguments, given=given)
        if done.returncode != 0:
            raise HomelabError(f"pulumi {' '.join(arguments[:2])}: {_reason(done.stderr or done.stdout)}")
        return done.stdout

    def _tried(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [self.executable, *arguments, "--non-interactive", "--color", "never"]
        try:
            return subprocess.run(
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


def pending(deployment: Mapping[str, Any]) -> list[Pending]:
    """The operations that a deployment calls pending."""
    found = deployment.get("pending_operations") or ()
    return [Pending(one["resource"]["urn"].rsplit("::", 1)[-1], one["type"]) for one in found]


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
    return reason + backends.hint(reason)
