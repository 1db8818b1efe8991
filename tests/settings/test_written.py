"""A written settings file: valid whatever was answered, with the example's own comments, and secrets never in it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from settings import load
from settings.written import EXAMPLE, untouched, written

ROOT = Path(__file__).parents[2]
LABELS = st.dictionaries(st.sampled_from(["example.com/rack", "zone", "a/b"]), st.sampled_from(["", "left", "1"]))
PATCHES = st.lists(
    st.sampled_from(
        [
            {"machine": {"sysctls": {"vm.nr_hugepages": "1024"}}},
            {"machine": {"certSANs": {"$patch": "delete"}}},
            {"apiVersion": "v1alpha1", "kind": "WatchdogTimerConfig", "device": "/dev/watchdog0"},
            {"cluster": {"apiServer": {"extraArgs": {"a": "no", "b": "12:34:56"}}}},
        ]
    ),
    max_size=3,
)


def sections(nodes: int, boards: int = 1, **cluster: Any) -> dict[str, dict[str, Any]]:
    return {
        "cluster": {
            "endpoint": {"vip": "192.168.7.10"},
            "talos": {"version": "v1.13.9"},
            "kubernetes": {"version": "v1.36.1"},
            "network": {"subnet": "192.168.7.0/24"},
            **cluster,
        },
        "boards": {f"board{number}": {"address": f"192.168.7.{200 + number}"} for number in range(1, boards + 1)},
        "nodes": {
            f"node{i}": {
                "role": "controlplane" if i < min(3, nodes) or i == 0 else "worker",
                "address": f"192.168.7.{20 + i}",
                "mac": f"12:34:56:10:20:{i:02d}",
                "machine": {"board": f"board{i // 4 + 1}", "slot": i % 4 + 1},
            }
            for i in range(nodes)
        },
    }


def read(folder: Path, text: str) -> Any:
    file = folder / "Pulumi.lab.yaml"
    file.write_text(text)
    return load(file)


def test_the_example_is_what_is_shipped() -> None:
    assert EXAMPLE.read_text() == (ROOT / "Pulumi.homelab.yaml").read_text(), (
        "the example changed: cp Pulumi.homelab.yaml settings/example.yaml"
    )


@pytest.mark.parametrize("boards", [1, 2, 3, 4])
def test_written_settings_are_valid_for_any_number_of_boards(boards: int, tmp_path: Path) -> None:
    given = sections(4 * boards, boards)
    lab = read(tmp_path, written(given, "lab", "Made by a test."))
    assert list(lab.boards) == list(given["boards"])
    assert [(node.board, node.slot) for node in lab.nodes.values()] == [
        (node["machine"]["board"], node["machine"]["slot"]) for node in given["nodes"].values()
    ]
    assert {warning.path.rpartition(".")[2] for warning in lab.warnings} == {"password"}


@settings(deadline=None, max_examples=40)
@given(
    nodes=st.integers(1, 8),
    name=st.sampled_from(["home", "yes", "123", "null", "a-b"]),
    labels=LABELS,
    patches=PATCHES,
    disk=st.sampled_from([None, {"disk": "/dev/nvme0n1"}, {"selector": {"size": ">= 16GB", "model": "A: b#c *"}}]),
    servers=st.lists(st.sampled_from(["1.1.1.1", "192.168.7.1"]), unique=True),
    taints=st.sampled_from([{}, {"example.com/only": "storage:NoSchedule"}, {"x": ":NoExecute"}]),
)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: Any, nodes: int, name: str, labels: Any, patches: Any, disk: Any, servers: Any, taints: Any
) -> None:
    values = sections(nodes, -(-nodes // 4), name=name, patches=patches)
    values["cluster"]["network"]["nameservers"] = servers
    for node in values["nodes"].values():
        node |= {"labels": labels, "taints": taints, "patches": patches, **({"install": disk} if disk else {})}
    text = written(values, "lab", "Made by a test.")
    raw = yaml.safe_load(text)["config"]
    lab = read(tmp_path_factory.mktemp("written"), text)
    assert lab.cluster.name == name
    assert [str(server) for server in lab.cluster.network.nameservers] == servers
    assert list(lab.cluster.patches) == patches
    for key, node in values["nodes"].items():
        assert lab.nodes[key].mac == node["mac"]
        assert lab.nodes[key].labels == labels
        assert list(lab.nodes[key].patches) == patches
        assert raw["homelab:nodes"][key] == node


def remarks(text: str) -> set[str]:
    """What is said behind a `# `, without the keys that are commented out."""
    found = {line.partition(" # ")[2].strip() for line in text.splitlines() if re.match(r" *[A-Za-z]", line)}
    return {remark for remark in found if remark}


def test_the_remarks_are_the_examples() -> None:
    text = written(sections(5, 2, name="home", patches=[{"machine": {}}]), "homelab", "Made by a test.")
    shipped = EXAMPLE.read_text()
    for remark in remarks(text):
        assert remark in shipped
    for remark in remarks(shipped):
        assert remark in text, f"{remark!r} was lost"


def test_every_key_of_the_example_is_still_shown() -> None:
    text = written(sections(1), "homelab", "Made by a test.")
    keys = set(re.findall(r"([A-Za-z_]\w*):", EXAMPLE.read_text()))
    assert keys - set(re.findall(r"([A-Za-z_]\w*):", text)) <= {f"node{number}" for number in range(1, 5)}


def test_only_the_first_of_many_nodes_shows_every_key() -> None:
    text = written(sections(4), "homelab", "Made by a test.")
    assert text.count("# disabled: false") == 1


def test_commands_in_the_file_name_its_stack() -> None:
    text = written(sections(1), "cellar", "Made by a test.")
    assert "homelab secret 'boards.board1.password' --stack cellar" in text
    assert "STACK=homelab" not in text
    assert "--stack" not in written(sections(1), "homelab", "Made by a test.")


def test_the_file_says_where_it_comes_from() -> None:
    lines = written(sections(1), "homelab", "Made by a test.").splitlines()
    assert lines[0] == "# yaml-language-server: $schema=docs/settings.schema.json"
    assert "# Made by a test." in lines[:4]


def test_an_edited_example_is_somebodys_work(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.homelab.yaml"
    file.write_bytes(EXAMPLE.read_bytes())
    assert untouched(file)
    file.write_bytes(EXAMPLE.read_bytes() + b"\n")
    assert not untouched(file)
