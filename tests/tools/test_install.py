"""The installer's steps: announced, skipped, taken back when they fail, and never two at once."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools import install, paths, pins
from tools.install import Step
from tools.pins import Tool
from tools.work import InstallError, Progress, Work

TOY = Tool(name="toy", title="Toy", version="1", minutes=1.0, builds=(pins.GoBuild("toy", ("./toy",), ("toy",)),))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HOMELAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(pins, "GO_MODULES", tmp_path / "go")
    return tmp_path / "cache"


@pytest.fixture
def work(tmp_path):
    return Work(tmp_path / "log", Progress(60.0))


def go(folder: Path, script: str, monkeypatch) -> None:
    """A `go` on PATH that does what the script says."""
    folder.mkdir(exist_ok=True)
    program = folder / "go"
    program.write_text(f'#!/bin/sh\n[ "$1" = env ] && echo go1.26.0 && exit\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    (folder.parent / "go" / "toy").mkdir(parents=True)


def step(name: str, done: list[str], minutes: float = 1.0) -> Step:
    return Step(name, name.title(), minutes, lambda: name in done, lambda _: done.append(name))


def test_a_step_says_its_number_its_time_and_that_of_the_missing_rest(tmp_path, capsys):
    done = ["two"]
    todo = [step("one", done, 3.2), step("two", done, 50.0), step("three", done, 8.6)]
    install.run(todo, tmp_path / "logs")
    assert capsys.readouterr().err.splitlines() == [
        "[1/3] One: about 3 min; the rest about 9 min",
        "[3/3] Three: about 9 min",
    ]
    assert done == ["two", "one", "three"]


def test_what_is_there_is_neither_made_nor_mentioned(tmp_path, capsys):
    install.run([step("one", ["one"])], tmp_path / "logs")
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "logs").exists()


def test_a_built_tool_is_moved_into_place_complete(tmp_path, work, monkeypatch, cache):
    go(
        tmp_path / "bin",
        'for last; do :; done; shift; while [ "$1" != -o ]; do shift; done; touch "$2/toy"',
        monkeypatch,
    )
    install.install(TOY, work)
    assert paths.installed(TOY)
    assert [entry.name for entry in (cache / "tools").iterdir()] == [paths.home(TOY).name]


def test_a_package_embeds_files_of_a_module_without_their_being_copied_into_the_checkout(
    tmp_path, work, monkeypatch, cache
):
    module = tmp_path / "module"
    (module / "cmd").mkdir(parents=True)
    (module / "cmd" / "schema.json").write_text("{}")
    script = (
        f'[ "$1" = mod ] && echo \'{{"Dir": "{module}"}}\' && exit\n'
        'while [ "$1" != -overlay ]; do shift; done\n'
        'cp "$2" "$4/toy"'
    )
    go(tmp_path / "bin", script, monkeypatch)
    embedded = pins.ModuleFile("toy", "example.org/toy", "cmd/schema.json")
    tool = dataclasses.replace(TOY, embedded=(embedded,))
    install.install(tool, work)
    overlay = json.loads((paths.home(tool) / "bin" / "toy").read_text())
    assert overlay == {"Replace": {str(tmp_path / "go/toy/toy/schema.json"): str(module / "cmd" / "schema.json")}}
    assert [entry.name for entry in paths.home(tool).iterdir()] == ["bin"]
    assert list((tmp_path / "go" / "toy").iterdir()) == []


def test_the_engine_finds_every_plugin_under_its_name_and_version(cache):
    install.show_plugins()
    install.show_plugins()
    plugins = paths.pulumi_home() / "plugins"
    for tool in pins.PLUGINS:
        shown = plugins / f"{tool.name}-v{tool.version}" / f"pulumi-{tool.name}"
        assert shown.readlink() == paths.home(tool) / "bin" / f"pulumi-{tool.name}"
    assert len(list(plugins.iterdir())) == len(pins.PLUGINS)
    assert not any(entry.is_symlink() for entry in plugins.iterdir())  # the engine takes a linked folder for no plugin


def test_a_failed_build_leaves_nothing_and_shows_its_last_words_and_its_log(tmp_path, work, monkeypatch, cache):
    go(tmp_path / "bin", "echo no space left >&2; exit 3", monkeypatch)
    with pytest.raises(InstallError) as raised:
        install.install(TOY, work)
    assert "exit code 3" in str(raised.value)
    assert "    no space left" in str(raised.value)
    assert str(work.log) in str(raised.value)
    assert list((cache / "tools").iterdir()) == []


def test_a_build_that_makes_nothing_is_an_error(tmp_path, work, monkeypatch, cache):
    go(tmp_path / "bin", "exit 0", monkeypatch)
    with pytest.raises(InstallError, match="toy was not made"):
        install.install(TOY, work)
    assert list((cache / "tools").iterdir()) == []


@pytest.mark.parametrize("said", ["go1.25.9\n", "", "devel"])
def test_no_or_an_old_go_is_said_before_anything_is_built(said, tmp_path, work, monkeypatch):
    program = tmp_path / "go-only" / "go"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{said.strip()}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(InstallError, match=r"Go 1\.26 or newer"):
        install.install(TOY, work)
    program.unlink()
    with pytest.raises(InstallError, match="not on PATH"):
        install.install(TOY, work)


def test_a_terminated_build_takes_its_children_along_and_leaves_nothing(tmp_path, monkeypatch, cache):
    go(tmp_path / "bin", f"echo $$ > {tmp_path}/pid; sleep 60 & wait", monkeypatch)
    code = (
        "import pathlib, signal, sys\n"
        "from tools import install, pins\n"
        "from tools.work import Progress, Work\n"
        f"pins.GO_MODULES = pathlib.Path({str(tmp_path / 'go')!r})\n"
        "toy = pins.Tool('toy', 'Toy', '1', 1.0, (pins.GoBuild('toy', ('./toy',), ('toy',)),))\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"install.install(toy, Work(pathlib.Path({str(tmp_path / 'log')!r}), Progress(60.0)))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=pins.ROOT)
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().strip())
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 143
    wait_until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())
    assert list((cache / "tools").iterdir()) == []


def test_a_second_installation_waits_for_the_first_and_says_so(tmp_path, cache):
    code = "import sys\nfrom tools import install, paths\nwith install.locked(paths.cache()): print('in', flush=True)"
    with install.locked(cache):
        second = subprocess.Popen(
            [sys.executable, "-c", code], cwd=pins.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        assert f"(process {os.getpid()})" in second.stderr.readline()
        assert second.poll() is None
    out, _ = second.communicate(timeout=10)
    assert out == "in\n"


def wait_until(true) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_unknown_group_and_an_old_python_are_refused(capsys, monkeypatch):
    assert install.main([]) == 2
    assert install.main(["everything"]) == 2
    monkeypatch.setattr(pins, "PYTHON", (9, 9))
    assert install.main(["up"]) == 1
    assert "Python 9.9 or newer is needed" in capsys.readouterr().err
