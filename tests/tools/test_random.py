"""The stand-in for the plugin `random`: what its passwords are made of, what it refuses, and the engine with it."""

import json
import subprocess
import sys

import bcrypt
import pytest

from tools import paths, pins
from tools.plugins import resource_random as random

PROGRAM = """
import pulumi
import pulumi_random

length = pulumi.Config().require_int("length")
first = pulumi_random.RandomPassword("door", length=length, min_upper=2, override_special="_-")
second = pulumi_random.RandomPassword("sesame", length=8, special=False, keepers={"door": first.id})
pulumi.export("door", first.result)
pulumi.export("hash", first.bcrypt_hash)
pulumi.export("sesame", second.result)
"""


def found(**inputs):
    return dict(random.mistakes(inputs))


def test_a_password_has_the_length_and_at_least_the_letters_asked_for():
    made = random.password({**random.DEFAULTS, "length": 12, "minNumeric": 4, "minSpecial": 5, "overrideSpecial": "_"})
    assert len(made) == 12
    assert sum(letter.isdigit() for letter in made) >= 4
    assert made.count("_") >= 5


def test_a_password_has_no_letters_of_a_kind_that_is_off():
    asked = {**random.DEFAULTS, "length": 400, "special": False, "upper": False}
    made = random.password(asked)
    assert set(made) == set(random.ALPHABETS["lower"] + random.ALPHABETS["numeric"])
    assert made != random.password(asked)


def test_a_hash_is_bcrypts_with_ten_rounds_of_the_first_72_bytes():
    made = random.outputs({"length": 100})
    result, hashed = made["result"]["value"], made["bcryptHash"]["value"]
    assert hashed.startswith("$2a$10$")
    assert bcrypt.checkpw(result[:72].encode(), hashed.encode())
    assert made["result"][random.SIGNATURE] == made["bcryptHash"][random.SIGNATURE] == random.SECRET


def test_a_mistake_names_its_property():
    assert found(length=1) == {}
    assert "knows keepers" in found(length=8, number=True)["number"]
    assert found(length="8") == {"length": "must be a whole number, not '8'"}
    assert found(length=8.5) == {"length": "must be a whole number, not 8.5"}
    assert found(length=8, special="yes") == {"special": "must be true or false, not 'yes'"}
    assert "at least 9" in found(length=8, minLower=4, minUpper=5)["length"]
    assert "at least 1" in found()["length"]
    assert "at least one of" in found(length=8, lower=False, upper=False, numeric=False, special=False)["lower"]


def test_what_is_not_known_yet_is_no_mistake():
    assert found(length="3eeb2bf0-c639-47a8-9e75-3b44932eb421") == {}
    assert found(length=8, special="1c4a061d-8072-4f0a-a4cb-0ff528b18fe7") == {}


def test_a_default_written_out_is_no_change():
    assert random.differing({"length": 8}, {"length": 8.0, "special": True, "minLower": 0}) == []
    assert random.differing({"length": 8, "__defaults": []}, {"length": 9, "special": False}) == ["length", "special"]
    assert random.differing({"length": 8, "keepers": {"a": "1"}}, {"length": 8}) == ["keepers"]


def test_it_ends_with_the_engine_however_that_ends():
    command = [sys.executable, str(pins.ROOT / pins.RANDOM_PROVIDER.own[0].source)]
    plugin = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert plugin.stdin
    assert plugin.stdout
    assert 0 < int(plugin.stdout.readline()) < 65536
    plugin.stdin.close()
    assert plugin.wait(20) == 0
    plugin.stdout.close()


@pytest.fixture
def pulumi(tmp_path):
    """A project of its own; the engine finds the stand-in, whatever of `random` this machine has."""
    (tmp_path / "Pulumi.yaml").write_text("name: probe\nruntime: python\n")
    (tmp_path / "__main__.py").write_text(PROGRAM)
    plugin = tmp_path / "home" / "plugins" / f"resource-random-v{pins.RANDOM_PLUGIN}" / "pulumi-resource-random"
    plugin.parent.mkdir(parents=True)
    plugin.symlink_to(pins.ROOT / pins.RANDOM_PROVIDER.own[0].source)
    (tmp_path / "state").mkdir()
    own = {"PULUMI_HOME": str(tmp_path / "home"), "PULUMI_BACKEND_URL": f"file://{tmp_path}/state"}
    env = {**paths.environment("twin"), **own}

    def run(*arguments, code=0):
        command = [paths.pulumi_bin() / "pulumi", *arguments, "--non-interactive", "--color", "never"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == code, done.stdout + done.stderr
        assert "warning" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    run("stack", "init", "probe")
    return run


def shown(pulumi):
    return json.loads(pulumi("stack", "output", "--json", "--show-secrets"))


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(600)
def test_passwords_are_made_once_kept_secret_and_replaced_when_their_making_changes(pulumi, tmp_path):
    pulumi("config", "set", "length", "20")
    pulumi("preview")
    pulumi("up", "--yes")
    first = shown(pulumi)
    assert len(first["door"]) == 20
    assert bcrypt.checkpw(first["door"].encode(), first["hash"].encode())
    state = pulumi("stack", "export") + "".join(path.read_text() for path in (tmp_path / "state").rglob("*.json"))
    assert "randomPassword" in state
    assert not any(value in state for value in first.values())
    assert "3 unchanged" in pulumi("up", "--yes")
    assert "3 unchanged" in pulumi("refresh", "--yes")
    assert shown(pulumi) == first
    pulumi("config", "set", "length", "21")
    assert "2 to replace" in pulumi("preview")  # the second's keeper is not known before the first is made
    pulumi("up", "--yes")
    second = shown(pulumi)
    assert len(second["door"]) == 21
    assert second["sesame"] == first["sesame"]
    pulumi("destroy", "--yes")


@pytest.mark.engine
def test_what_the_stand_in_does_not_know_fails_the_preview(pulumi, tmp_path):
    pulumi("config", "set", "length", "0")
    assert "must be at least 2" in pulumi("preview", code=1)
    (tmp_path / "__main__.py").write_text("import pulumi_random\npulumi_random.RandomId('x', byte_length=4)\n")
    assert "knows random:index/randomPassword:RandomPassword only" in pulumi("preview", code=1)
