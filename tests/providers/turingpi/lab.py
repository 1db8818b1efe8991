"""A twin with one board of each firmware, for the tests of the client."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from providers.turingpi import session
from providers.turingpi.client import Bmc, Endpoint
from providers.turingpi.flash import Pace

ROOT = Path(__file__).parents[3]
PASSWORD = "not-the-default"
FIRMWARES = {"new": "v2.1.0", "mid": "v2.0.5", "old": "v1.1.0"}
PORT = 8443
FAST = Pace(poll_s=0.05, own_s=1.0, stall_s=2.5, answer_s=6.0, silent_s=1.0, cool_down_s=0.1, return_s=5.0, boot_s=2.0)


class Lab:
    """A running twin."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.clients: list[Bmc] = []
        self.net = f"127.105.{random.SystemRandom().randrange(1, 250)}"
        self.file = folder / "lab.yaml"
        self.file.write_text(yaml.safe_dump(self._spec()), encoding="utf-8")

    def _spec(self) -> dict[str, Any]:
        boards = {}
        for number, (name, firmware) in enumerate(FIRMWARES.items()):
            slots = {
                slot: {
                    "name": f"{name}{slot}",
                    "mac": f"02:00:00:00:0{number}:0{slot}",
                    "address": f"{self.net}.{10 + 10 * number + slot}",
                }
                for slot in (1, 2, 3)  # slot 4 is empty
            }
            address = {"address": f"{self.net}.{200 + number}", "port": PORT, "loopback_auth": True}
            boards[name] = {**address, "firmware": firmware, "password": PASSWORD, "slots": slots}
        times = {"flash_s": 60, "crc_s": 30, "boot_s": 10, "usb_boot_s": 5, "bmc_boot_s": 60}
        return {
            "name": "client",
            "scale": 0.01,
            "subnet": f"{self.net}.0/24",
            "operating_system": "none",
            "factory": {"address": f"{self.net}.2", "port": 8080, "image_bytes": 3 << 20},
            "times": times,
            "boards": boards,
        }

    def run(self, *words: str) -> str:
        command = [sys.executable, "-m", "twin", *words, "--state", str(self.state)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)
        if done.returncode:
            log = self.state / "twin.log"
            raise RuntimeError(f"{words}: {done.stderr} {log.read_text()[-2000:] if log.exists() else ''}")
        return done.stdout

    def control(self, **command: Any) -> Any:
        record = json.loads((self.state / "twin.json").read_bytes())
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(record["control"])
            connection.sendall(json.dumps(command).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline())
        if not answer["ok"]:
            raise RuntimeError(answer)
        return answer["result"]

    def fault(self, name: str, **fault: Any) -> None:
        place = {key: fault.pop(key) for key in ("node", "board", "times", "at") if key in fault}
        self.control(command="fault", fault={"name": name, **place, "params": fault})

    def clear(self) -> None:
        self.run("fault", "--clear")

    def events(self, kind: str, since: float = 0) -> list[dict[str, Any]]:
        lines = (self.state / "events.jsonl").read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        return [event for event in found if event["kind"] == kind and event["t"] >= since]

    def url(self, board: str) -> str:
        scheme = "http" if board == "old" else "https"
        return f"{scheme}://{self.net}.{200 + list(FIRMWARES).index(board)}:{PORT}"

    def bmc(self, board: str, timeout_s: float = 5.0, **endpoint: Any) -> Bmc:
        bmc = Bmc.connect(Endpoint(self.url(board), **{"password": PASSWORD, **endpoint}), timeout_s)
        self.clients.append(bmc)
        return bmc

    def close(self) -> None:
        while self.clients:
            self.clients.pop().close()

    def settled(self, board: str) -> None:
        """Wait until a board answers again."""
        end = time.monotonic() + 10
        while True:
            try:
                with self.bmc(board) as bmc:
                    bmc.power()
                return
            except Exception:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Lab]:
    lab = Lab(folder)
    lab.run("up", "--lab", str(lab.file))
    try:
        yield lab
    finally:
        lab.run("down")


def forget_sessions() -> None:
    session._sessions.clear()
