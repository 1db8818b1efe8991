"""Copies of the state: whole or refused, put back with the present one beside, and the last ten of those by runs."""

from __future__ import annotations

import gzip
import io
import json
import stat
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import archive, passphrase, stacks, state
from cli.archive import State
from cli.engine import Engine
from cli.stacks import Stack
from providers.errors import HomelabError, ProtocolError, RefusedError, UserError
from tests.cli.pulumi import SALT, Pulumi, exported

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LATER = "2026-11-21T09:00:00.123456789Z"


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    (tmp_path / "Pulumi.yaml").write_text("name: homelab\nruntime: python\n")
    (tmp_path / "Pulumi.homelab.yaml").write_text("config: {}\n")
    return Stack("homelab", tmp_path)


@pytest.fixture
def pulumi(tmp_path: Path) -> Pulumi:
    return Pulumi(tmp_path / "bin")


@pytest.fixture
def engine(stack: Stack, pulumi: Pulumi) -> Engine:
    return pulumi.engine(stack, f"file://{stack.root}/kept")


def made(stack: Stack, text: str = "") -> Path:
    return state.make(stack, State(text or exported()), None, NOW).path


def test_a_copy_holds_the_state_the_settings_and_the_project_and_nobody_else_reads_it(stack: Stack) -> None:
    path = made(stack)
    assert path == stack.folder / "states" / "state-homelab-20261121T120000Z.tar.gz"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = archive.read(path)
    assert found.state.text == exported()
    assert found.settings == stack.settings_file.read_bytes()
    assert set(found.files) == {"state.json", "Pulumi.yaml", "Pulumi.homelab.yaml"}
    assert (found.stack, found.made, found.reason) == ("homelab", NOW, "by hand")


def test_a_copy_goes_where_it_is_wanted(stack: Stack, tmp_path: Path) -> None:
    found = State(exported())
    assert state.make(stack, found, tmp_path / "x.tar.gz", NOW).path == tmp_path / "x.tar.gz"
    assert state.make(stack, found, tmp_path, NOW).path.parent == tmp_path
    with pytest.raises(UserError, match="there is no folder"):
        state.make(stack, found, tmp_path / "none" / "x.tar.gz", NOW)


def test_of_nothing_there_is_no_copy(stack: Stack) -> None:
    with pytest.raises(UserError, match="has no state yet"):
        made(stack, exported(nodes=()))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other(path: Path) -> None:
    path.write_text("no archive")


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rewritten(change: Callable[[dict[str, bytes]], object]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        with tarfile.open(path) as tar:
            files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        change(files)
        with tarfile.open(path, "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))

    return rewrite


def manifest(**values: object) -> Callable[[Path], None]:
    def change(files: dict[str, bytes]) -> None:
        files["manifest.json"] = json.dumps(json.loads(files["manifest.json"]) | values).encode()

    return rewritten(change)


DAMAGES = {
    "cut": (cut, "cut short or damaged"),
    "half": (half, "cut short or damaged"),
    "other": (other, "cut short or damaged"),
    "empty": (empty, "cut short or damaged"),
    "a changed state": (rewritten(lambda f: f.update({"state.json": b"{}"})), "state.json is damaged: its checksum"),
    "a missing file": (rewritten(lambda f: f.pop("Pulumi.yaml")), "cut short or damaged"),
    "one more file": (rewritten(lambda f: f.update({"more": b""})), "cut short or damaged"),
    "no manifest": (rewritten(lambda f: f.pop("manifest.json")), "is no archive of"),
    "a manifest of something else": (rewritten(lambda f: f.update({"manifest.json": b"[]"})), "is no archive of"),
    "a newer format": (manifest(format=2), "of format 2, this program knows 1"),
    "no moment": (manifest(made="once"), "is no archive of"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_copy_is_refused(stack: Stack, name: str) -> None:
    path = made(stack)
    damage, word = DAMAGES[name]
    damage(path)
    with pytest.raises(ProtocolError, match=word):
        archive.read(path)


def test_every_length_of_a_cut_copy_is_refused(stack: Stack) -> None:
    path = made(stack)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ProtocolError):
            archive.read(path)


def test_what_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        archive.read(tmp_path / "none.tar.gz")
    with pytest.raises(UserError, match="can't be read"):
        archive.read(tmp_path)


def test_a_copy_that_can_not_be_written_leaves_no_half_one(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="can't be written: No space left"):
        made(stack)
    assert list((stack.folder / "states").iterdir()) == []


@pytest.mark.parametrize(("word", "fits"), [("twin", True), ("Twin", False), ("", False)])
def test_the_passphrase_is_tried_without_the_engine(word: str, fits: bool) -> None:
    assert passphrase.opens(word, SALT) is fits


def test_a_salt_that_is_none() -> None:
    for salt in ("", "v2:a:v1:b:c", "v1:?:v1:?:?", "v1:a"):
        with pytest.raises(ProtocolError, match="salt"):
            passphrase.opens("twin", salt)


def test_the_passphrase_of_a_file_has_no_line_end(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("twin\n")
    assert passphrase.given({"PULUMI_CONFIG_PASSPHRASE_FILE": str(tmp_path / "word")}) == "twin"
    assert passphrase.given({}) is None
    with pytest.raises(UserError, match="can't be read"):
        passphrase.given({"PULUMI_CONFIG_PASSPHRASE_FILE": str(tmp_path / "none")})


def test_another_stacks_resources_are_refused(stack: Stack, engine: Engine) -> None:
    with pytest.raises(RefusedError, match="which is another stack's; nothing was replaced"):
        state.refuse_foreign(engine, archive.read(made(stack, exported(stack="other"))))


def test_another_passphrase_is_refused(stack: Stack, engine: Engine) -> None:
    engine.environment["PULUMI_CONFIG_PASSPHRASE"] = "another"
    with pytest.raises(RefusedError, match=r"made with another passphrase .*nothing was replaced"):
        state.refuse_foreign(engine, archive.read(made(stack)))
    del engine.environment["PULUMI_CONFIG_PASSPHRASE"]
    with pytest.raises(UserError, match="no passphrase is given"):
        state.refuse_foreign(engine, archive.read(made(stack)))


def test_the_clouds_secrets_open_nowhere_else(stack: Stack, engine: Engine, pulumi: Pulumi) -> None:
    found = archive.read(made(stack, exported(secrets={"type": "service", "state": {"url": "x"}})))
    with pytest.raises(RefusedError, match="only Pulumi Cloud opens its secrets"):
        state.refuse_foreign(engine, found)
    state.refuse_foreign(pulumi.engine(stack, "https://api.pulumi.com"), found)


@pytest.mark.parametrize(
    ("present", "older"),
    [(exported(time=LATER), True), (exported(), False), (exported(nodes=(), time=LATER), False), ("{}", False)],
    ids=["newer", "the same", "empty", "none"],
)
def test_whether_it_is_older(stack: Stack, present: str, older: bool) -> None:
    assert state.is_older(archive.read(made(stack)), State(present)) is older


def test_what_would_be_different_is_told(stack: Stack) -> None:
    found = archive.read(made(stack, exported(nodes=("node1", "node2"))))
    stack.settings_file.write_text("config: {homelab:nodes: {}}\n")
    told = "\n".join(state.story(stack, found, State(exported(nodes=("node1", "node5"), time=LATER))))
    assert "made 2026-11-21 12:00 UTC by hand: 3 resources, node1, node2, written 2026-11-20 10:00 UTC" in told
    assert "the present state: 3 resources, node1, node5, written 2026-11-21 09:00 UTC" in told
    assert "the state forgets what they did" in told
    assert "node5: not in the copy" in told
    assert "node2: only in the copy" in told
    assert "Pulumi.homelab.yaml is another by now" in told


def test_a_run_leaves_a_copy_unless_the_newest_is_the_same(stack: Stack) -> None:
    assert state.keep(stack, State(exported(nodes=())), "up", NOW) is None
    first = state.keep(stack, State(exported()), "up", NOW)
    assert first is not None
    assert first.path.name == "before-up-20261121T120000Z.tar.gz"
    assert state.keep(stack, State(exported()), "up", NOW + timedelta(minutes=1)) is None
    assert state.keep(stack, State(exported(time=LATER)), "destroy-target", NOW + timedelta(minutes=2)) is not None


def test_a_damaged_newest_copy_holds_nothing(stack: Stack) -> None:
    first = state.keep(stack, State(exported()), "up", NOW)
    assert first is not None
    cut(first.path)
    assert state.keep(stack, State(exported()), "up", NOW + timedelta(minutes=1)) is not None


def test_ten_copies_by_runs_are_kept_and_all_by_hand(stack: Stack) -> None:
    mine = made(stack)
    beside = state.folder(stack) / "before-restore-20200101T000000Z.tar.gz"
    beside.touch()
    for minute in range(13):
        verb = ("up", "destroy-target", "refresh")[minute % 3]
        state.keep(stack, State(exported(time=f"2026-11-21T10:{minute:02}:00Z")), verb, NOW + timedelta(minutes=minute))
    kept = [path.name.rsplit("-", 1)[-1] for path in state.automatic(stack)]
    assert kept == [f"20261121T12{minute:02}00Z.tar.gz" for minute in range(12, 2, -1)]
    assert mine.exists()
    assert beside.exists()


# The verbs.


@pytest.fixture
def owner(stack: Stack, engine: Engine, pulumi: Pulumi, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Types a verb in a checkout whose engine is the stand-in."""
    monkeypatch.setattr(stacks, "find", lambda name: Stack(name, stack.root))
    monkeypatch.setattr(state, "Stack", lambda name: Stack(name, stack.root))
    monkeypatch.setattr(state, "Engine", lambda _: engine)
    pulumi.says("stack export", stdout=exported(time=LATER))

    def type_(*words: str, fails: type[HomelabError] | None = None, given: str = "") -> str:
        done = CliRunner().invoke(state.app, [*words], input=given, env={"COLUMNS": "200", "NO_COLOR": "1"})
        if fails:
            assert isinstance(done.exception, fails), done.output
            return str(done.exception)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.output

    return type_


def test_backup_prints_what_it_wrote(owner: Callable[..., str], stack: Stack) -> None:
    found = json.loads(owner("backup", "--stack", "homelab", "--json"))
    assert (found["stack"], found["resources"], found["nodes"], found["secrets"]) == (
        "homelab",
        2,
        ["node1"],
        "passphrase",
    )
    assert archive.read(Path(found["file"])).digest == found["sha256"]
    assert "2 resources, node1" in owner("backup", "--stack", "homelab")


def test_restore_keeps_the_present_state_beside(owner: Callable[..., str], stack: Stack, pulumi: Pulumi) -> None:
    path = made(stack)
    said = owner("restore", str(path), "--stack", "homelab", "--yes")
    assert pulumi.imported == [json.loads(exported())]
    (beside,) = state.folder(stack).glob("before-restore-*")
    assert archive.read(beside).state.text == exported(time=LATER)
    assert str(beside) in said
    assert "runs have changed the lab since" in said
    assert stack.settings_file.read_text() == "config: {}\n"


def test_an_older_state_is_asked_for_and_no_is_no(owner: Callable[..., str], stack: Stack, pulumi: Pulumi) -> None:
    path = made(stack)
    assert "nobody to ask" in owner("restore", str(path), "--stack", "homelab", fails=UserError)
    assert pulumi.imported == []
    assert not list(state.folder(stack).glob("before-restore-*"))


def test_a_state_that_did_not_arrive_is_told(owner: Callable[..., str], stack: Stack, pulumi: Pulumi) -> None:
    path = made(stack, exported(nodes=("node1", "node2")))
    assert "is not that of" in owner("restore", str(path), "--stack", "homelab", "--yes", fails=HomelabError)


def test_another_stacks_copy_is_refused(owner: Callable[..., str], stack: Stack, pulumi: Pulumi) -> None:
    path = made(stack)
    assert "is of stack homelab, not twin; say --stack homelab" in owner("restore", str(path), fails=RefusedError)
    assert pulumi.calls == []


def test_a_missing_settings_file_comes_back(owner: Callable[..., str], stack: Stack) -> None:
    path = made(stack)
    stack.settings_file.unlink()
    assert "wrote Pulumi.homelab.yaml" in owner("restore", str(path), "--stack", "homelab", "--yes")
    assert stack.settings_file.read_text() == "config: {}\n"


def test_settings_of_then_come_back_when_asked_for(owner: Callable[..., str], stack: Stack) -> None:
    path = made(stack)
    stack.settings_file.write_text("config: {a: 1}\n")
    assert "left alone" in owner("restore", str(path), "--stack", "homelab", "--yes")
    assert stack.settings_file.read_text() == "config: {a: 1}\n"
    owner("restore", str(path), "--stack", "homelab", "--yes", "--settings")
    assert stack.settings_file.read_text() == "config: {}\n"
    newest = max(state.folder(stack).glob("before-restore-*"), key=lambda path: path.stat().st_mtime_ns)
    assert archive.read(newest).settings == b"config: {a: 1}\n"


def test_a_held_stack_is_not_restored(owner: Callable[..., str], stack: Stack, pulumi: Pulumi) -> None:
    path = made(stack)
    lock = stack.root / "kept" / ".pulumi" / "locks" / "organization" / "homelab" / "homelab" / "x.json"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"pid": 1, "hostname": "laptop", "username": "ann", "timestamp": LATER}))
    said = owner("restore", str(path), "--stack", "homelab", "--yes", fails=RefusedError)
    assert "is locked by process 1 of ann on laptop" in said
    assert pulumi.imported == []


def test_a_lock_is_given_up_with_a_word(owner: Callable[..., str], stack: Stack, pulumi: Pulumi) -> None:
    assert "is not locked" in owner("unlock", "--stack", "homelab")
    lock = stack.root / "kept" / ".pulumi" / "locks" / "organization" / "homelab" / "homelab" / "x.json"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({"pid": 1, "hostname": "laptop", "username": "ann", "timestamp": LATER}))
    assert "nobody to ask" in owner("unlock", "--stack", "homelab", fails=UserError)
    assert "cancel --yes homelab" not in pulumi.calls
    assert "process 1 of ann on laptop" in owner("unlock", "--stack", "homelab", "--yes")
    assert "cancel --yes homelab" in pulumi.calls


def test_a_bomb_is_no_archive(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MOST_BYTES", 1000)
    path = made_big(stack)
    with pytest.raises(ProtocolError, match="is no archive of"):
        archive.read(path)


def made_big(stack: Stack) -> Path:
    path = stack.root / "big.tar.gz"
    with gzip.open(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as tar:
        member = tarfile.TarInfo("state.json")
        member.size = 2000
        tar.addfile(member, io.BytesIO(b" " * 2000))
    return path
