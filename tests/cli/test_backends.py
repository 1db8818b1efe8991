"""Where the state is kept, and who says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli import backends, doctor
from cli.engine import Engine
from cli.stacks import Stack
from providers.errors import HomelabError, UserError
from tests.cli.pulumi import Pulumi

S3 = "s3://state?endpoint=127.117.1.1:9000&disableSSL=true&s3ForcePathStyle=true&region=us-east-1"


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An owner without a word in the environment, and without a login."""
    for name in (backends.VARIABLE, backends.CREDENTIALS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))


def project(root: Path, text: str) -> Stack:
    (root / "Pulumi.yaml").write_text(f"name: homelab\nruntime: python\n{text}")
    return Stack("homelab", root)


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("file:///a/b", Path("/a/b")),
        ("file:///a/b?no_tmp_dir=true", Path("/a/b")),
        ("file://~/x", Path("~/x").expanduser()),
        ("file://./kept", Path("/project/kept")),
        (S3, None),
        ("https://api.pulumi.com", None),
        ("", None),
    ],
)
def test_where_the_file_backend_is(url: str, folder: Path | None) -> None:
    assert backends.of({backends.VARIABLE: url}, Path("/project")).folder == folder


@pytest.mark.parametrize(
    ("url", "kind", "shown"),
    [
        ("file:///a/b", "a folder", "file:///a/b"),
        (S3, "a bucket", "s3://state"),
        ("gs://state/lab", "a bucket", "gs://state/lab"),
        ("https://me:word@api.pulumi.com", "Pulumi Cloud", "https://api.pulumi.com"),
    ],
)
def test_what_is_told_of_a_backend(url: str, kind: str, shown: str) -> None:
    backend = backends.of({backends.VARIABLE: url}, Path("/project"))
    assert (backend.kind, backend.shown) == (kind, shown)


@pytest.mark.usefixtures("nobody")
def test_the_project_file_says_where_a_real_labs_state_goes(tmp_path: Path) -> None:
    stack = project(tmp_path, f"backend:\n  url: {S3}\n")
    assert backends.environment(stack)[backends.VARIABLE] == S3


@pytest.mark.usefixtures("nobody")
def test_a_twins_state_stays_with_the_twin(tmp_path: Path) -> None:
    stack = project(tmp_path, f"backend:\n  url: {S3}\n")
    (tmp_path / "twin" / "labs").mkdir(parents=True)
    (tmp_path / "twin" / "labs" / "homelab.yaml").write_text("scale: 1\n")
    assert backends.environment(stack)[backends.VARIABLE].startswith("file://")


@pytest.mark.usefixtures("nobody")
def test_the_environment_comes_before_the_project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack = project(tmp_path, f"backend:\n  url: {S3}\n")
    monkeypatch.setenv(backends.VARIABLE, "s3://other")
    assert backends.environment(stack)[backends.VARIABLE] == "s3://other"


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("text", ["", "backend:\n", "backend: {}\n"])
def test_with_no_word_at_all_it_stays_in_the_checkout(tmp_path: Path, text: str) -> None:
    found = backends.environment(project(tmp_path, text))[backends.VARIABLE]
    assert found.startswith("file://")
    assert found.endswith("/.homelab/state?metadata=skip")


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize(
    "text", ["backend: s3://x\n", "backend: {url: 5}\n", "backend: {url: bucket}\n", "backend: {\n"]
)
def test_a_mistake_in_the_project_file_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"Pulumi\.yaml"):
        backends.environment(project(tmp_path, text))


@pytest.mark.usefixtures("nobody")
def test_a_login_of_the_owners_serves_for_the_cloud_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    login = tmp_path / "nobody" / ".pulumi"
    login.mkdir(parents=True)
    (login / "credentials.json").write_text("{}")
    monkeypatch.setenv(backends.VARIABLE, "https://api.pulumi.com")
    assert backends.environment(project(tmp_path, ""))[backends.CREDENTIALS] == str(login)
    monkeypatch.setenv(backends.VARIABLE, S3)
    assert backends.CREDENTIALS not in backends.environment(project(tmp_path, ""))


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("NoCredentialProviders: no valid providers in chain", "AWS_ACCESS_KEY_ID"),
        ("NoSuchBucket: The specified bucket does not exist", "make the bucket first"),
        ("PULUMI_ACCESS_TOKEN must be set for login", "pulumi login"),
        ("incorrect passphrase", r"\.homelab/passphrase"),
    ],
)
def test_what_a_backend_lacks_is_told_with_what_to_do(tmp_path: Path, said: str, word: str) -> None:
    pulumi = Pulumi(tmp_path / "bin")
    pulumi.says("stack", stderr=f"error: {said}\n", code=1)
    with pytest.raises(HomelabError, match=f"{said.partition(':')[0]}.*; .*{word}"):
        pulumi.engine(Stack("homelab", tmp_path), S3).exists()


@pytest.mark.parametrize(
    ("url", "settings", "needed"),
    [
        (S3, "config: {}\n", True),
        ("https://api.pulumi.com", "config: {}\n", False),
        ("https://api.pulumi.com", "encryptionsalt: v1:x\nconfig: {}\n", True),
        (S3, "secretsprovider: gcpkms://key\nconfig: {}\n", False),
    ],
)
def test_who_needs_a_passphrase(tmp_path: Path, url: str, settings: str, needed: bool) -> None:
    engine = Engine(Stack("homelab", tmp_path), {backends.VARIABLE: url})
    engine.stack.settings_file.write_text(settings)
    if not needed:
        engine.require_passphrase()
        return
    with pytest.raises(UserError, match="no passphrase is given"):
        engine.require_passphrase()


def test_a_compressed_state_is_a_state(tmp_path: Path) -> None:
    pulumi = Pulumi(tmp_path / "bin")
    state = tmp_path / "state" / ".pulumi" / "stacks" / "homelab" / "homelab.json.gz"
    state.parent.mkdir(parents=True)
    state.touch()
    pulumi.engine(Stack("homelab", tmp_path), f"file://{tmp_path}/state").remove()
    assert pulumi.calls == ["stack rm --force --yes --preserve-config homelab"]


def test_doctor_says_where_the_state_is_and_whether_it_answers(tmp_path: Path) -> None:
    pulumi, stack = Pulumi(tmp_path / "bin"), Stack("homelab", tmp_path)
    in_folder = doctor._state(pulumi.engine(stack, f"file://{tmp_path}/kept"))
    assert (in_folder.ok, in_folder.seen) == (True, f"a folder, file://{tmp_path}/kept")
    assert pulumi.calls == []
    pulumi.says("stack ls", stdout='[{"name": "homelab"}]')
    assert doctor._state(pulumi.engine(stack, S3)).seen == "a bucket, s3://state"
    pulumi.says("stack ls", stdout="[]")
    assert doctor._state(pulumi.engine(stack, S3)).seen.endswith("no stack homelab yet")
    pulumi.says("stack ls", stderr="error: NoSuchBucket: none\n", code=1)
    wrong = doctor._state(pulumi.engine(stack, S3))
    assert not wrong.ok
    assert "make the bucket first" in wrong.seen
    assert not any("init" in call for call in pulumi.calls)


def test_doctor_takes_no_lock_to_look_for_one(tmp_path: Path) -> None:
    pulumi = Pulumi(tmp_path / "bin")
    assert doctor._lock(pulumi.engine(Stack("homelab", tmp_path), S3)).ok
    assert pulumi.calls == []
