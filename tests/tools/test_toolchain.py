"""The installed engine runs a Python program with a dynamic provider, on a state of its own."""

import json
import os
import subprocess

import pytest

from tools import paths, pins, release

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PROGRAM = """
import pulumi
from gadget import Gadget

pulumi.export("python", Gadget("one", 3).python)
"""
GADGET = """
import sys
from pulumi import Output, dynamic


class Provider(dynamic.ResourceProvider):
    def create(self, props):
        return dynamic.CreateResult("gadget-1", {**props, "python": sys.executable})


class Gadget(dynamic.Resource):
    python: Output[str]

    def __init__(self, name, size):
        super().__init__(Provider(), name, {"size": size, "python": None})
"""


@pytest.fixture
def pulumi(tmp_path):
    (tmp_path / "Pulumi.yaml").write_text("name: probe\nruntime: python\n")
    (tmp_path / "__main__.py").write_text(PROGRAM)
    (tmp_path / "gadget.py").write_text(GADGET)
    state = tmp_path / "state"
    state.mkdir()
    env = paths.environment("twin", environ={**os.environ, "PULUMI_BACKEND_URL": f"file://{state}"})

    def run(*arguments):
        command = [paths.pulumi_bin() / "pulumi", *arguments, "--non-interactive", "--color", "never"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_dynamic_resource_is_made_in_the_projects_python_and_taken_away(pulumi, tmp_path):
    assert release.fits(pulumi("version"))
    pulumi("stack", "init", "probe")
    pulumi("up", "--yes", "--stack", "probe")
    outputs = json.loads(pulumi("stack", "output", "--json", "--stack", "probe"))
    assert outputs == {"python": str(paths.virtualenv() / "bin" / "python")}
    assert "2 unchanged" in pulumi("up", "--yes", "--stack", "probe")
    assert not list(tmp_path.glob("state/**/*.attrs")), "the engine writes these in place: a kill would tear them"
    pulumi("destroy", "--yes", "--stack", "probe")
    state = json.loads(pulumi("stack", "export", "--stack", "probe"))
    assert not state["deployment"].get("resources")


@pytest.mark.parametrize("program", ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "etcd"])
def test_the_servers_say_their_pinned_version(program):
    done = subprocess.run([paths.servers_bin() / program, "--version"], capture_output=True, text=True, timeout=60)
    version = {"etcd": pins.ETCD, "kwok": pins.KWOK}.get(program, pins.KUBERNETES)
    assert version in done.stdout


def test_the_talos_client_says_its_pinned_version():
    command = [str(paths.talosctl()), "version", "--client", "--short"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert f"v{pins.TALOSCTL}" in done.stdout + done.stderr


def test_helm_says_its_pinned_version_and_renders_a_chart(tmp_path):
    done = subprocess.run([paths.helm(), "version", "--short"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"v{pins.HELM}")
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: probe\nversion: 1.0.0\nkubeVersion: '>= 1.30'\n")
    (tmp_path / "templates" / "one.yaml").write_text("of: {{ .Values.of | quote }}\n")
    command = [paths.helm(), "template", "probe", tmp_path, "--set", "of=tea"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert 'of: "tea"' in done.stdout


def test_promtool_says_its_pinned_version_and_tells_a_rule_that_can_not_be_read(tmp_path):
    done = subprocess.run([paths.promtool(), "--version"], capture_output=True, text=True, timeout=60)
    assert f"version {pins.PROMTOOL}" in done.stdout + done.stderr
    rules = tmp_path / "rules.yaml"
    rules.write_text("groups: [{name: probe, rules: [{alert: Away, expr: up == 0}]}]\n")
    good = subprocess.run([paths.promtool(), "check", "rules", rules], capture_output=True, text=True, timeout=60)
    assert "1 rules found" in good.stdout
    rules.write_text("groups: [{name: probe, rules: [{alert: Away, expr: up ==}]}]\n")
    bad = subprocess.run([paths.promtool(), "check", "rules", rules], capture_output=True, text=True, timeout=60)
    assert bad.returncode != 0


def test_actionlint_says_its_pinned_version():
    done = subprocess.run([paths.actionlint(), "-version"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith(f"{pins.ACTIONLINT}\n")
