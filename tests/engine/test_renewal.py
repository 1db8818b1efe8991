"""Client certificates renew themselves when under 30 days are left: nobody is locked out of a year-old lab."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
import yaml

from providers.talos.identity import client_certificates
from providers.talos.pki import days_left
from providers.talos.secrets import kubeconfig, talosconfig
from providers.talos.wire import unpack
from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def left(lab: Sandbox) -> list[float]:
    """Days left of the certificates in the files that `up` leaves."""
    files = ((lab.folder / ".homelab" / name).read_text(encoding="utf-8") for name in ("talosconfig", "kubeconfig"))
    return [days_left(pem) for pem in client_certificates(*files)]


def age(lab: Sandbox, days: int) -> None:
    """Let the stack hold certificates that end in so many days."""
    state = json.loads(lab.pulumi("stack", "export", "--show-secrets"))
    resources = {r["urn"].rsplit("::", 1)[-1]: r for r in state["deployment"]["resources"]}
    bundle = unpack(json.loads(resources["secrets"]["outputs"]["bundle"]["plaintext"]))
    outputs, ttl = resources["cluster"]["outputs"], timedelta(days=days)
    server = yaml.safe_load(json.loads(outputs["kubeconfig"]["plaintext"]))["clusters"][0]["cluster"]["server"]
    old = {
        "talosconfig": talosconfig("home", bundle.issue_client(ttl=ttl), [f"{lab.prefix}.11"]),
        "kubeconfig": kubeconfig("home", server, bundle.issue_kubernetes_admin(ttl)),
    }
    for name, text in old.items():
        outputs[name]["plaintext"] = json.dumps(text)
    path = lab.folder / "aged.json"
    path.write_text(json.dumps(state), encoding="utf-8")
    lab.pulumi("stack", "import", "--file", str(path))


def test_certificates_with_enough_time_are_left_alone(two: Sandbox) -> None:
    assert min(left(two)) > 360
    age(two, 40)
    assert "talos:Cluster cluster update" not in two.run("preview").ok().output


def test_expiring_certificates_are_issued_again_by_up(two: Sandbox) -> None:
    age(two, 20)
    before = len(two.events())
    assert "talos:Cluster cluster update" in two.run("preview").ok().output
    two.up().ok()
    assert min(left(two)) > 360
    assert not {e["kind"] for e in two.events()[before:]} & {"config_applied", "boot_started", "reset", "flash_started"}
    two.preview_unchanged().ok()
    key = yaml.safe_load((two.folder / ".homelab" / "kubeconfig").read_text(encoding="utf-8"))["users"][0]["user"]
    assert b"PRIVATE KEY" in base64.b64decode(key["client-key-data"])
