"""A pool beside the lab's own nodes: its tokens open the real API server, its files follow the settings, and go."""

from __future__ import annotations

import base64
import json
import re
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.engine.sandbox import Sandbox

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

MAC = "02:00:00:00:01:01"
REVIEW = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def _sections(lab: Sandbox) -> str:
    return f"""\
  homelab:boot_service: {{address: {lab.prefix}.200, folder: {lab.folder}/netboot}}
  homelab:pools:
    boxes:
      image: {{linux: {{release: r1, kernel: {lab.folder}/vmlinuz, initramfs: {lab.folder}/root, arguments: [quiet]}}}}
      labels: {{example.com/rack: left}}
      machines:
        box1: {{mac: "{MAC}", tags: [fast], power: {{wake_on_lan: {{broadcast: 127.255.255.255}}}}}}
        box2: {{mac: "02:00:00:00:01:02"}}
      tags: {{fast: {{labels: {{example.com/disk: fast}}, taints: {{example.com/only: "batch:NoSchedule"}}}}}}
      catch_all: {{approval: manual}}
    installed:
      image: {{talos: {{}}}}
      install: /dev/sda
      machines:
        box3: {{mac: "02:00:00:00:01:03", generation: 1}}
        box4: {{mac: "02:00:00:00:01:04"}}
"""


@pytest.fixture(scope="module")
def pools(cold_two: Sandbox) -> Sandbox:
    """Two Ready nodes, and two pools."""
    cold_two.write("vmlinuz", "a kernel")
    cold_two.write("root", "a root")
    path = cold_two.folder / cold_two.settings
    path.write_text(path.read_text() + _sections(cold_two))
    cold_two.up().ok()
    return cold_two


def _www(lab: Sandbox) -> Path:
    return lab.folder / "netboot" / "www"


def _script(lab: Sandbox, mac: str) -> str:
    return (_www(lab) / "mac" / f"{mac.replace(':', '-')}.ipxe").read_text()


def _join(lab: Sandbox, mac: str) -> dict[str, str]:
    """A machine's join file, as its own script leads to it."""
    found = re.search(r"--name config \S+/(config/[0-9a-f]{32}/join) ", _script(lab, mac))
    assert found, _script(lab, mac)
    lines = (_www(lab) / found[1]).read_text().splitlines()
    return {key: value.strip("'") for key, _, value in (line.partition("=") for line in lines)}


def _who(join: dict[str, str]) -> tuple[int, Any]:
    """Who the API server takes the holder of a join file for."""
    context = ssl.create_default_context(cadata=base64.b64decode(join["HOMELAB_CA"]).decode())
    headers = {"Authorization": f"Bearer {join['HOMELAB_TOKEN']}"}
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    answer = httpx2.post(join["HOMELAB_SERVER"] + REVIEW, json=body, headers=headers, verify=context, trust_env=False)
    return answer.status_code, answer.json()


def test_a_token_opens_the_api_server_for_joining_and_for_nothing_else(pools: Sandbox) -> None:
    join = _join(pools, MAC)
    status, told = _who(join)
    assert (status, told["status"]["userInfo"]["username"][:17]) == (201, "system:bootstrap:")
    assert "system:bootstrappers:nodes" in told["status"]["userInfo"]["groups"]
    assert join["HOMELAB_LABELS"] == "example.com/disk=fast,example.com/rack=left"
    assert join["HOMELAB_TAINTS"] == "example.com/only=batch:NoSchedule"
    assert join["HOMELAB_TOKEN"] != _join(pools, "02:00:00:00:01:02")["HOMELAB_TOKEN"], "each machine has its own"


def test_only_a_machine_with_a_generation_is_given_what_writes_its_disk(pools: Sandbox) -> None:
    installed, waits = (_script(pools, f"02:00:00:00:01:0{number}") for number in (3, 4))
    found = re.search(r"talos\.config=http://\S+/(config/[0-9a-f]{32}/config\.yaml)", installed)
    assert found, installed
    config = (_www(pools) / found[1]).read_text()
    assert "type: worker" in config
    assert "hostname: box3" in config
    assert "/dev/sda" in config
    assert "talos.config" not in waits


def test_nothing_secret_is_in_plain_in_the_state(pools: Sandbox) -> None:
    token = _join(pools, MAC)["HOMELAB_TOKEN"]
    state = json.dumps(pools.state())
    assert token not in state
    assert not re.search(r"config/[0-9a-f]{32}/", state)


def test_a_second_run_changes_nothing(pools: Sandbox) -> None:
    pools.preview_unchanged().ok()


def test_another_image_is_served_and_who_can_not_be_restarted_is_told(pools: Sandbox) -> None:
    pools.edit(pools.settings, "release: r1", "release: r2")
    done = pools.up().ok().output
    assert "images/boxes-r2/kernel" in _script(pools, MAC)
    assert (_www(pools) / "images" / "boxes-r2" / "kernel").read_text() == "a kernel"
    assert "box1: can't be restarted from here; it takes boxes-r2 at its next start" in done


def test_a_pool_goes_with_its_tokens_and_the_nodes_stay(pools: Sandbox) -> None:
    join, boots = _join(pools, MAC), len(pools.events("boot_started"))
    path = pools.folder / pools.settings
    path.write_text(path.read_text().split("  homelab:boot_service:")[0])
    pools.up().ok()
    assert _who(join)[0] == 401
    assert not (_www(pools) / "boot.ipxe").exists()
    assert not any((_www(pools) / "mac").glob("*"))
    assert not any(name.startswith(("box", "installed")) for name in pools.names())
    assert len(pools.events("boot_started")) == boots
