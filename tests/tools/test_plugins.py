"""The installed plugins, found by the engine itself: no warning, no download, no cluster."""

import base64
import json
import subprocess

import pytest
import yaml

from tools import paths, pins

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

PROGRAM = """
import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_random

provider = kubernetes.Provider("files", render_yaml_to_directory="rendered")
password = pulumi_random.RandomPassword("door-password", length=12)
kubernetes.core.v1.Secret(
    "door",
    metadata={"name": "door", "namespace": "house"},
    string_data={"password": password.result},
    opts=pulumi.ResourceOptions(provider=provider),
)
pulumi.export("password", password.result)
"""


@pytest.fixture
def pulumi(tmp_path):
    (tmp_path / "Pulumi.yaml").write_text("name: probe\nruntime: python\n")
    (tmp_path / "__main__.py").write_text(PROGRAM)
    (tmp_path / "state").mkdir()
    env = {**paths.environment("twin"), "PULUMI_BACKEND_URL": f"file://{tmp_path}/state"}

    def run(*arguments):
        command = [paths.pulumi_bin() / "pulumi", *arguments, "--color", "never"]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ownload" not in done.stderr
        return done.stdout

    return run


def test_the_engine_lists_each_plugin_at_its_pinned_version(pulumi):
    listed = {entry["name"]: entry["version"] for entry in json.loads(pulumi("plugin", "ls", "--json"))}
    assert listed == {"kubernetes": pins.KUBERNETES_PLUGIN, "random": pins.RANDOM_PLUGIN}


def test_the_kubernetes_plugin_answers_with_the_schema_of_its_version(pulumi):
    schema = json.loads(pulumi("package", "get-schema", f"kubernetes@{pins.KUBERNETES_PLUGIN}"))
    assert schema["version"] == pins.KUBERNETES_PLUGIN
    assert {"kubernetes:helm.sh/v4:Chart", "kubernetes:helm.sh/v3:Release"} <= set(schema["resources"])


def test_a_generated_password_goes_into_a_secret_without_a_cluster(pulumi, tmp_path):
    pulumi("stack", "init", "probe")
    said = pulumi("up", "--yes", "--non-interactive")
    assert "4 created" in said
    assert "ownload" not in said
    warnings = [line for line in said.splitlines() if "warning" in line]
    assert all("plaintext" in line for line in warnings)  # it is to a file that this test asks for
    outputs = json.loads(pulumi("stack", "output", "--json", "--show-secrets"))
    documents = [yaml.safe_load(path.read_text()) for path in (tmp_path / "rendered").rglob("*.yaml")]
    assert [base64.b64decode(document["data"]["password"]).decode() for document in documents] == [outputs["password"]]
    assert "4 unchanged" in pulumi("up", "--yes", "--non-interactive")
