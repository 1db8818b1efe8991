"""Each wrong file is refused with exactly the lines in its header, each valid one is taken without a warning."""

from pathlib import Path

import pytest

from settings import SettingsError, load, warnings

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
INVALID = sorted((_HERE / "invalid").glob("*.yaml"))
VALID = sorted((_HERE / "valid").glob("*.yaml"))


def _header(file: Path, word: str) -> list[str]:
    mark = f"# {word}: "
    return [line.removeprefix(mark) for line in file.read_text().splitlines() if line.startswith(mark)]


@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_a_wrong_file_is_told_line_by_line(file: Path):
    expected, warned = _header(file, "expect"), _header(file, "warn")
    assert expected or warned, "the header says nothing"
    if warned:
        assert [str(warning) for warning in warnings(load(file))] == warned
        return
    with pytest.raises(SettingsError) as caught:
        load(file)
    assert [str(problem) for problem in caught.value.problems] == expected
    assert str(caught.value).startswith(f"{file.name}: {len(expected)} mistake")
    assert caught.value.__context__ is None, "a pydantic error would carry the values, secrets included"


def test_there_are_enough_wrong_files():
    assert len(INVALID) >= 70


@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_a_valid_file_is_taken_without_a_warning(file: Path):
    assert load(file).warnings == ()


def test_defaults_are_what_they_are_written_to_be():
    minimal, written = (load(_HERE / "valid" / f"{name}.yaml") for name in ("minimal", "all-defaults"))
    assert minimal.model_dump() == written.model_dump()


def test_spellings_become_one():
    full = load(_HERE / "valid" / "full.yaml")
    assert full.nodes["cp-a"].mac == "12:34:56:10:20:30"
    assert full.nodes["worker-a"].mac == "02:aa:bb:cc:dd:ee"
    assert full.boards["board2"].fingerprint == "sha256:" + "ab" * 32
    assert full.boards["board2"].url == "https://10.0.0.61:8443"
    assert full.boards["board1"].url == "https://turingpi.home.arpa"
    assert full.cluster.talos.factory == "http://factory.home.arpa:8080"
    assert full.cluster.endpoint.url == "https://k8s.home.arpa:443"
    assert full.cluster.patches[1]["kind"] == "WatchdogTimerConfig"


def test_who_is_in_the_cluster():
    full = load(_HERE / "valid" / "full.yaml")
    assert [node.name for node in full.enabled_nodes] == ["cp-a", "worker-a"]
    assert [node.name for node in full.control_planes] == ["cp-a"]
    assert [str(address) for address in full.control_plane_addresses] == ["10.0.1.1"]
    assert (full.nodes["worker-a"].board, full.nodes["worker-a"].slot) == ("board1", 4)
    assert str(full.nodes["worker-b"].install.disk) == "/dev/mmcblk0"


def test_a_file_that_is_not_there():
    with pytest.raises(SettingsError, match=r"can't be read: No such file.*; copy Pulumi\.homelab\.yaml"):
        load(Path("/nowhere/Pulumi.lab.yaml"))


def test_the_owners_example_lacks_only_the_password():
    lab = load(_ROOT / "Pulumi.homelab.yaml")
    assert [warning.path for warning in lab.warnings] == ["boards.board1.password"]
    assert not any(node.generation for node in lab.nodes.values()), "the example must not flash anything"


@pytest.mark.parametrize(("stack", "nodes", "control_planes"), [("twin", 4, 3), ("sixteen", 16, 3)])
def test_the_twins_stacks_are_complete(stack: str, nodes: int, control_planes: int):
    lab = load(_ROOT / f"Pulumi.{stack}.yaml")
    assert (len(lab.enabled_nodes), len(lab.control_planes)) == (nodes, control_planes)
    assert lab.warnings == ()
    assert all(node.generation == 1 for node in lab.nodes.values())


def test_control_planes_of_the_larger_twin_are_on_three_boards():
    lab = load(_ROOT / "Pulumi.sixteen.yaml")
    assert len({node.board for node in lab.control_planes}) == 3
