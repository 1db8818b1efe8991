"""Secrets come from Pulumi, and never go anywhere but to the device they are for."""

import json
from pathlib import Path

import pulumi
import pytest

from settings import SettingsError, from_pulumi, from_values, load, stack_file

_MINIMAL = Path(__file__).parent / "valid" / "minimal.yaml"
_FULL = Path(__file__).parent / "valid" / "full.yaml"
_SECRET = "correct-horse-battery"

_CLUSTER = {
    "endpoint": {"vip": "192.168.1.230"},
    "talos": {"version": "v1.13.9"},
    "kubernetes": {"version": "v1.36.1"},
}
_NODE = {
    "role": "controlplane",
    "address": "192.168.1.231",
    "mac": "02:00:00:00:00:01",
    "machine": {"board": "board1", "slot": 1},
}


def _values(board: dict[str, object], node: dict[str, object] | None = None) -> dict[str, str]:
    sections = {"cluster": _CLUSTER, "boards": {"board1": board}, "nodes": {"node1": _NODE | (node or {})}}
    return {f"homelab:{name}": json.dumps(section) for name, section in sections.items()}


def test_a_decrypted_password_is_there_and_not_shown():
    lab = from_values(_values({"address": "192.168.1.60", "password": _SECRET}), _MINIMAL)
    assert lab.boards["board1"].plain_password == _SECRET
    assert _SECRET not in repr(lab) + str(lab) + lab.model_dump_json()


def test_without_pulumi_a_secret_is_a_placeholder():
    assert load(_MINIMAL).boards["board1"].plain_password == "[secret]"


def test_decrypted_values_take_the_place_of_placeholders():
    decrypted = {key: json.loads(text) for key, text in _values({"address": "h", "password": _SECRET}).items()}
    assert load(_MINIMAL, decrypted).boards["board1"].plain_password == _SECRET


def test_an_unset_password_stops_a_run_but_not_a_reader():
    values = _values({"address": "192.168.1.60"})
    with pytest.raises(SettingsError, match=r"boards\.board1\.password: is not set; type `homelab secret"):
        from_values(values)
    lab = load(_MINIMAL, {key: json.loads(text) for key, text in values.items()})
    assert [warning.path for warning in lab.warnings] == ["boards.board1.password"]
    with pytest.raises(SettingsError, match="is not set"):
        _ = lab.boards["board1"].plain_password


@pytest.mark.parametrize(
    ("board", "node"),
    [
        ({"address": "192.168.1.60", "password": _SECRET, "username": [_SECRET]}, {}),
        ({"address": _SECRET + "!", "password": _SECRET}, {}),
        ({"address": "192.168.1.60", "password": _SECRET, "fingerprint": _SECRET}, {"role": _SECRET}),
        ({"address": f"https://root:{_SECRET}@192.168.1.60", "password": "another-one"}, {}),
        ({"address": "192.168.1.60", "password": [_SECRET]}, {}),
        ({"address": "192.168.1.60", "passwort": _SECRET}, {}),
        ({"address": "192.168.1.60", "password": _SECRET}, {"labels": {"a": _SECRET + "!"}}),
    ],
)
def test_no_mistake_repeats_a_secret(board: dict[str, object], node: dict[str, object]):
    with pytest.raises(SettingsError) as caught:
        from_values(_values(board, node), _MINIMAL)
    assert _SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_plain_password_in_the_file_stops_a_run(tmp_path: Path):
    file = tmp_path / "Pulumi.lab.yaml"
    file.write_text(_MINIMAL.read_text().replace('{secure: "v1:AAAA:BBBB"}', _SECRET))
    with pytest.raises(
        SettingsError, match=r"boards.board1.password \(line 8\): is a secret written in plain"
    ) as caught:
        from_values(_values({"address": "192.168.1.60", "password": _SECRET}), file)
    assert _SECRET not in str(caught.value)


def test_secrets_inside_patches_may_be_encrypted():
    patch = load(_FULL).nodes["worker-a"].patches[0]
    assert patch["machine"]["network"]["interfaces"][0]["wireguard"]["privateKey"] == "[secret]"


def test_the_pulumi_program_reads_its_own_stack(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOMELAB_STACK_FILE", str(_MINIMAL))
    pulumi.runtime.set_all_config(_values({"address": "192.168.1.60", "password": _SECRET}))
    try:
        assert from_pulumi().boards["board1"].plain_password == _SECRET
    finally:
        pulumi.runtime.set_all_config({})


def test_where_a_stack_file_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HOMELAB_STACK_FILE", raising=False)
    assert stack_file("twin") == Path(__file__).parent.parent.parent / "Pulumi.twin.yaml"


def test_config_that_is_no_map_is_a_mistake_and_no_crash():
    with pytest.raises(SettingsError, match="cluster: 'plain text' is not a map"):
        from_values({"cluster": "plain text", "boards": "3", "nodes": "[]"})
