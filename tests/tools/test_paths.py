"""Where the tools are looked for, and the environment that they run in."""

import os
from pathlib import Path

import pytest

from tools import paths, pins


def test_the_cache_is_where_the_user_says_else_where_caches_are():
    assert paths.cache({"HOMELAB_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert paths.cache({"XDG_CACHE_HOME": "/b"}) == Path("/b/homelab")
    assert paths.cache({}) == Path.home() / ".cache" / "homelab"


def test_a_tool_counts_as_installed_when_its_last_program_is_there(tmp_path):
    environ = {"HOMELAB_CACHE": str(tmp_path)}
    folder = paths.home(pins.ENGINE, environ) / "bin"
    folder.mkdir(parents=True)
    for program in pins.ENGINE.programs:
        assert not paths.installed(pins.ENGINE, environ)
        (folder / program).touch()
    assert paths.installed(pins.ENGINE, environ)


def test_the_environment_puts_the_virtualenv_before_the_engine_before_the_rest(tmp_path):
    environ = {"PATH": "/usr/bin", "HOMELAB_CACHE": str(tmp_path / "cache"), "VIRTUAL_ENV": "/other"}
    env = paths.environment("home", tmp_path, environ)
    home = paths.home(pins.ENGINE, environ)
    assert env["PATH"].split(os.pathsep) == [str(tmp_path / ".venv" / "bin"), str(home / "bin"), "/usr/bin"]
    assert env["PULUMI_HOME"] == str(paths.pulumi_home(environ))
    assert env["HOMELAB_TOOLS"] == str(paths.home(pins.SERVERS, environ))
    assert "VIRTUAL_ENV" not in env


def test_state_stays_in_the_checkout_unless_the_user_names_a_backend(tmp_path):
    env = paths.environment("home", tmp_path, {})
    assert env["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/.homelab/state?metadata=skip"
    assert (tmp_path / ".homelab" / "state").is_dir()


@pytest.mark.parametrize(
    ("named", "used"),
    [
        ("s3://x?region=here", "s3://x?region=here"),
        ("file:///a", "file:///a?metadata=skip"),
        ("file:///a?no_tmp_dir=false", "file:///a?no_tmp_dir=false&metadata=skip"),
        ("file:///a?metadata=skip", "file:///a?metadata=skip"),
    ],
)
def test_the_users_own_backend_is_taken_and_a_folder_keeps_no_attributes(named, used, tmp_path):
    assert paths.environment("home", tmp_path, {"PULUMI_BACKEND_URL": named})["PULUMI_BACKEND_URL"] == used


@pytest.mark.parametrize("stack", ["twin", "sixteen"])
def test_a_twin_has_a_known_passphrase_whatever_the_owner_uses_for_the_real_lab(stack, tmp_path):
    own = {"PULUMI_CONFIG_PASSPHRASE": "mine", "PULUMI_CONFIG_PASSPHRASE_FILE": "/secret"}
    env = paths.environment(stack, tmp_path, own)
    assert env["PULUMI_CONFIG_PASSPHRASE"] == "twin"
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in env


def test_a_real_lab_takes_the_owners_word_then_the_file_in_the_checkout_then_none(tmp_path):
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in paths.environment("home", tmp_path, {})
    kept = tmp_path / ".homelab" / "passphrase"
    kept.write_text("word\n")
    assert paths.environment("home", tmp_path, {})["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(kept)
    given = paths.environment("home", tmp_path, {"PULUMI_CONFIG_PASSPHRASE": ""})
    assert given["PULUMI_CONFIG_PASSPHRASE"] == ""
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in given


def test_what_a_lost_run_applied_is_not_in_the_way(tmp_path):
    assert paths.environment("home", tmp_path, {})["PULUMI_K8S_ENABLE_PATCH_FORCE"] == "true"
