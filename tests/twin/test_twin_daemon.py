"""The twin as a program: it starts once, remembers through a power cut of everything, and leaves nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.twin.conftest import ROOT, Bench
from twin import faults
from twin.lab import load

SECRET = "very-secret-word"

BOARDS = {name: {"password": SECRET} for name in ("plain", "cert", "net", "reboot")}
LAB = {"scale": 0.005}


@pytest.fixture(name="own")
def _own(make_lab, tmp_path):
    """A twin that the test starts and ends itself."""
    bench = Bench(make_lab({"board1": {"password": SECRET}}, scale=0.005), tmp_path / "state")
    yield bench
    for client in bench.clients:
        client.close()
    bench.run("down", check=False)


def get(bench, query, board="board1"):
    client = bench.client(board, auth=("root", SECRET))
    return client.get(f"/api/bmc?{query}").json()["response"][0]["result"]


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"  # a zombie waits for its parent only


def refuses(address, port):
    try:
        socket.create_connection((address, port), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_life_from_up_to_down(own):
    assert own.up().startswith("twin up, pid ")
    assert "up already" in own.up()
    status = json.loads(own.run("status", "--json"))
    assert status["lab"] == "test"
    pid = status["pid"]
    assert "board11" in own.run("status")
    assert own.down() == f"twin down (pid {pid})\n"
    assert not alive(pid)
    assert refuses(own.lab["boards"]["board1"]["address"], 8443)
    assert refuses(own.lab["factory"]["address"], 8080)
    assert "no twin runs" in own.down()
    assert "no twin runs" in own.run("status", check=False)
    own.run("down", "--clean")
    assert not own.state.exists()


def test_down_and_up_is_a_power_cut_of_everything(own, wait):
    own.lab["scale"] = 0.1
    own.file.write_text(json.dumps(own.lab))
    own.up()
    assert get(own, "opt=set&type=power&node2=1") == "ok"
    wait((own.state / "boards/board1/power.json").exists)
    get(own, "opt=set&type=power&node1=1")
    own.control(command="down")  # within the 3 s in which the BMC holds its bits back
    wait(lambda: not (own.state / "twin.json").exists())
    own.up()
    assert get(own, "opt=get&type=power") == [{"node1": "0", "node2": "1", "node3": "0", "node4": "0"}]
    assert own.module("board1", "board12")["phase"] == "loader"


def test_killed_twin_is_replaced_by_the_next(own):
    own.up()
    pid = own.control(command="status")["pid"]
    os.kill(pid, signal.SIGKILL)
    assert own.up().startswith("twin up, pid ")
    assert own.control(command="status")["pid"] != pid


def test_term_signal_ends_it_like_down(own, wait):
    own.up()
    pid = own.control(command="status")["pid"]
    os.kill(pid, signal.SIGTERM)
    wait(lambda: not (own.state / "twin.json").exists())
    assert own.events("twin_down")


def test_taken_port_is_said_in_one_line(own):
    with socket.create_server((own.lab["factory"]["address"], 8080)):
        said = own.run("up", "--lab", str(own.file), check=False)
    assert said.count("\n") == 1
    assert "a port that is taken belongs to another twin" in said


def test_mistakes_in_a_lab_file_are_named(own):
    own.lab["boards"]["board1"]["colour"] = "green"
    own.lab["scale"] = -1
    own.file.write_text(json.dumps(own.lab))
    said = own.run("up", "--lab", str(own.file), check=False)
    assert "boards.board1.colour: Extra inputs" in said
    assert "scale: " in said


def test_long_state_folder_names_still_get_a_socket(make_lab, tmp_path):
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    bench = Bench(make_lab({"board1": {}}), deep / "state")
    bench.up()
    assert bench.control(command="status")["lab"] == "test"
    bench.down()


def test_no_secret_in_any_of_its_files(own):
    own.up()
    client = own.client("board1", auth=None)
    login = {"username": "root", "password": SECRET}
    token = client.post("/api/bmc/authenticate", json=login).json()["id"]
    client.get("/api/bmc?opt=get&type=power", headers={"Authorization": f"Bearer {token}"})
    client.get("/api/bmc?opt=get&type=power", headers={"Authorization": f"Bearer {token}x"})
    own.fault("bmc-password", password="another-secret")
    own.down()
    for path in own.state.rglob("*"):
        if path.is_file() and path.suffix != ".pem":
            text = path.read_bytes()
            assert not [word for word in (SECRET.encode(), b"another-secret", token.encode()) if word in text], path


def test_state_is_for_its_owner_only(own):
    own.up()
    modes = {path.name: path.stat().st_mode & 0o077 for path in own.state.rglob("*.pem")}
    assert modes == {"key.pem": 0, "cert.pem": 0}


def test_fault_list_names_the_line_that_each_plays():
    listed = subprocess.run(
        [sys.executable, "-m", "twin", "fault", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for line in ("4a.1 ", "4a.2 ", "4a.4 ", "4a.5 ", "4a.6 ", "4a.7 ", "4a.8 ", "4a.9 ", "4a.10 "):
        assert line in listed
    assert "flash-error" in listed


def test_unknown_words_are_refused(bench):
    assert "no fault is called 'nonsense'" in bench.run("fault", "nonsense", check=False)
    assert "parameters are pairs" in bench.run("fault", "flash-error", "--after-bytes", check=False)
    assert "unknown: --colour" in bench.run("status", "--colour", check=False)


def test_fault_from_the_command_line(bench):
    bench.run("fault", "answer-500", "--board", "plain", "--times", "2", "--type", "power", "--text", "oops")
    client = bench.client("plain", auth=("root", SECRET))
    assert [client.get("/api/bmc?opt=get&type=power").status_code for _ in range(3)] == [500, 500, 200]
    bench.fault("power-lies", board="plain")
    assert get(bench, "opt=get&type=power", "plain")[0]["node2"] == "Unknown"
    assert bench.run("fault", "power-lies", "--clear") == "1\n"


def test_new_certificate(bench, wait):
    first = (bench.state / "boards/cert/cert.pem").read_bytes()
    bench.fault("bmc-certificate", board="cert")
    wait(lambda: (bench.state / "boards/cert/cert.pem").read_bytes() != first)


def test_crash_and_start(bench, wait):
    address = bench.lab["boards"]["plain"]["address"]
    bench.fault("bmc-crash", board="plain")
    wait(lambda: refuses(address, 8443))
    bench.fault("bmc-start", board="plain")
    wait(lambda: not refuses(address, 8443))


def test_bmc_network_reset_interrupts_and_comes_back(bench, wait):
    get(bench, "opt=set&type=network&cmd=reset", "net")
    for kind in ("bmc_down", "bmc_up"):
        wait(lambda kind=kind: [event for event in bench.events(kind) if event["board"] == "net"])
    assert not refuses(bench.lab["boards"]["net"]["address"], 8443)


def test_reboot_of_a_v2_4_board_cuts_its_nodes_power(bench, wait):
    get(bench, "opt=set&type=power&node1=1", "reboot")
    get(bench, "opt=set&type=reboot", "reboot")
    wait(lambda: bench.events("power_off", "reboot1"))
    wait(lambda: len(bench.events("power_on", "reboot1")) == 2)


def test_shipped_labs_load():
    labs = {name: load(ROOT / f"twin/labs/{name}.yaml") for name in ("four", "sixteen")}
    assert {name: len(list(lab.machines)) for name, lab in labs.items()} == {"four": 4, "sixteen": 16}
    assert [str(module.address) for _, _, module in labs["sixteen"].machines][-1] == "127.16.0.26"


def test_twin_imports_nothing_of_the_program():
    for path in (ROOT / "twin").rglob("*.py"):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in {"providers", "components", "settings", "cli"}, path


def test_every_fault_is_played_somewhere_and_tried_here():
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    code = "".join(path.read_text() for path in (ROOT / "twin").rglob("*.py") if path.name != "faults.py")
    own = faults.BMC + faults.ANSWERS + faults.FACTORY + faults.NODE
    assert [kind.name for kind in own if f'"{kind.name}"' not in code] == []
    assert [kind.name for kind in own if f'"{kind.name}"' not in tests and kind.name != "half-open"] == []
