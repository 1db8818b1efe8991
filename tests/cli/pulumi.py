"""A `pulumi` for tests: writes down how it was called and what it was given, and answers as it is told to."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cli.engine import Engine
from cli.stacks import Stack

SALT = "v1:9lUNtzzK0+s=:v1:yoaW+19JFJE3HbNJ:4x7Zb4E3BmMGh93gNOF1u2H1zqTcfQ=="  # the passphrase is "twin"
PROGRAM = """#!/bin/sh
cd {folder}
echo "$*" >> calls
n=$(ls given | wc -l)
case "$1 $2" in "stack import") cat > "given/$n";; esac
for answer in answers/*; do
  read -r pattern < "$answer/when"
  case "$*" in $pattern) cat "$answer/stdout"; cat "$answer/stderr" >&2; exit $(cat "$answer/code");; esac
done
"""


class Pulumi:
    """The stand-in, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("answers", "given"):
            (folder / name).mkdir(parents=True)
        path = folder / "pulumi"
        path.write_text(PROGRAM.format(folder=folder))
        path.chmod(0o755)

    def says(self, when: str, stdout: str = "", stderr: str = "", code: int = 0) -> None:
        """Answer a command line that begins like this; what was said later counts first."""
        folder = self._folder / "answers" / f"{999 - len(list((self._folder / 'answers').iterdir()))}"
        folder.mkdir()
        for name, text in (("when", f"{when}*\n"), ("stdout", stdout), ("stderr", stderr), ("code", str(code))):
            (folder / name).write_text(text)

    @property
    def calls(self) -> list[str]:
        """Its command lines, without what every quiet one ends with."""
        path = self._folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removesuffix(" --non-interactive --color never") for line in lines]

    @property
    def imported(self) -> list[dict[str, Any]]:
        """The states that it was given."""
        return [json.loads(path.read_text()) for path in sorted((self._folder / "given").iterdir())]

    def engine(self, stack: Stack, url: str, **more: str) -> Engine:
        """An engine that runs it."""
        path = f"{self._folder}:{os.defpath}"
        return Engine(stack, {"PATH": path, "PULUMI_BACKEND_URL": url, "PULUMI_CONFIG_PASSPHRASE": "twin", **more})


def exported(
    stack: str = "homelab",
    nodes: tuple[str, ...] = ("node1",),
    time: str = "2026-11-20T10:00:00Z",
    pending: tuple[tuple[str, str], ...] = (),
    secrets: dict[str, Any] | None = None,
) -> str:
    """What `pulumi stack export` prints."""

    def urn(kind: str, name: str) -> str:
        return f"urn:pulumi:{stack}::homelab::{kind}::{name}"

    names = [("pulumi:pulumi:Stack", f"homelab-{stack}"), *(("homelab:Node", node) for node in nodes)]
    deployment: dict[str, Any] = {
        "manifest": {"time": time, "magic": "x", "version": "v3.232.0"},
        "secrets_providers": secrets or {"type": "passphrase", "state": {"salt": SALT}},
        "resources": [{"urn": urn(kind, name), "type": kind} for kind, name in names] if nodes else [],
    }
    if pending:
        deployment["pending_operations"] = [
            {"resource": {"urn": urn("talos:Machine", name)}, "type": doing} for name, doing in pending
        ]
    return json.dumps({"version": 3, "deployment": deployment})
