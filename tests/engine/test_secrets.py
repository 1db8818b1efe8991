"""Proof 7: no secret that the run knew stands in the exported state, in what was printed, or in the twin's logs."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.talos.wire import unpack
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SHORTEST = 12


def texts(value: Any) -> Iterator[str]:
    """Every text inside a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def secret_lines(pem: str) -> Iterator[str]:
    """What gives a private key away: each line of its body, however it is wrapped."""
    if "PRIVATE KEY" in pem:
        yield from (line for line in pem.splitlines() if len(line) >= 32 and "-----" not in line)


def known(lab: Sandbox) -> set[str]:
    """Every secret of the run, in every coding that it travels in."""
    deployment = json.loads(lab.pulumi("stack", "export", "--show-secrets"))["deployment"]
    secrets = next(r for r in deployment["resources"] if r["urn"].endswith("::secrets"))["outputs"]["bundle"]
    packed = json.loads(secrets["plaintext"]) if isinstance(secrets, dict) else secrets
    bundle = unpack(packed)
    plain = {packed, "opens-this-board", bundle.cluster_secret, bundle.bootstrap_token, bundle.trustd_token}
    plain.add(bundle.secretbox_secret)
    for pem in texts(bundle.to_dict()["certs"]):
        decoded = base64.b64decode(pem).decode()
        if "PRIVATE KEY" in decoded:
            plain |= {pem, *secret_lines(decoded)}
    for name in ("kubeconfig", "talosconfig"):
        text = (lab.folder / ".homelab" / name).read_text(encoding="utf-8")
        for key in re.findall(r"key(?:-data)?: (\S{40,})", text):
            plain |= {key, *secret_lines(base64.b64decode(key).decode())}
    return {secret for secret in plain if len(secret) >= SHORTEST}


def files(folder: Path) -> Iterator[Path]:
    """What a twin writes for people: its logs and events; not its disks, which hold machine configs as real ones do."""
    for path in folder.rglob("*"):
        if path.is_file() and not {"disks", "run"} & set(path.relative_to(folder).parts):
            yield path


def test_no_secret_in_state_output_or_logs(either: Sandbox) -> None:
    either.up().ok()
    either.run("destroy-target", "node4" if either.two else "node3", "--yes").ok()
    either.up().ok()
    secrets = known(either)
    assert len(secrets) > 20
    searched = {"state": either.pulumi("stack", "export"), "output": either.said()}
    for path in (either.folder / ".homelab" / "state").rglob("*"):
        if path.is_file():
            searched[str(path)] = path.read_text(encoding="utf-8", errors="replace")
    for path in files(either.twin_state):
        searched[str(path)] = path.read_text(encoding="utf-8", errors="replace")
    found = [(where, secret[:6] + "...") for where, text in searched.items() for secret in secrets if secret in text]
    print(f"{len(secrets)} secrets, {len(searched)} places, {sum(map(len, searched.values())) / 1e6:.0f} MB searched")
    assert found == []


def test_asking_for_the_engines_debug_log_warns(either: Sandbox) -> None:
    """The engine itself prints secrets in plain from verbosity 3 on; nobody should share that unwarned."""
    assert "prints secrets in plain" in either.run("preview", "--", "--verbose=3").ok().output


def test_the_search_would_find_one(either: Sandbox) -> None:
    """The check can fail: the same secrets are found where they may stand."""
    shown = either.pulumi("stack", "export", "--show-secrets")
    assert any(secret in shown for secret in known(either))
