"""`python -m twin.hosts`: start, look at, disturb and end a lab of Linux hosts."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twin import client
from twin.disk import write
from twin.hosts import balancer, bmc, k3s, kubeadm, lab
from twin.hosts.box import Box
from twin.hosts.host import Host
from twin.hosts.lab import Lab
from twin.hosts.sshd import Sshd

__all__ = ["balancer", "k3s", "kubeadm", "main"]
_START_S = 30


class Hosts:
    """One lab in one process."""

    def __init__(self, spec: lab.LabSpec, folder: Path, tools: Path | None) -> None:
        self.lab = Lab(spec, folder, tools)
        for name, host in spec.hosts.items():
            Host(self.lab, name, host)
        for name, box in spec.boxes.items():
            Box(self.lab, name, box)
        self._doors = [Sshd(host) for host in self.lab.hosts.values()]
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Start everything, wait for `down` or a signal, end everything."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        for door in self._doors:
            self.lab.spawn(door.watch(), f"{door.host.name} sshd")
        for host in self.lab.hosts.values():
            await host.boot()
        bmcs = await bmc.listen(self.lab)
        control = await asyncio.start_unix_server(self._serve, str(self.lab.folder / "control.sock"))
        record = {"pid": os.getpid(), "control": str(self.lab.folder / "control.sock")}
        write(self.lab.folder / "twin.json", json.dumps(record).encode())
        try:
            await self._ended.wait()
        finally:
            control.close()
            await bmcs.cleanup()
            for box in self.lab.boxes.values():
                await box.cut()
            for host in self.lab.hosts.values():
                await host.cut()
            for door in self._doors:
                door.close()
            await self.lab.close()
            (self.lab.folder / "twin.json").unlink(missing_ok=True)

    def status(self) -> dict[str, Any]:
        """What there is. Nothing secret."""
        hosts = {
            name: {
                "on": host.on,
                "boots": host.boots,
                "units": dict(host.units.states),
                "packages": sorted(host.packages),
            }
            for name, host in self.lab.hosts.items()
        }
        return {**hosts, **{name: {"on": box.on, "boots": box.boots} for name, box in self.lab.boxes.items()}}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        try:
            result: Any = await self._command(asked["command"], asked.get("host", ""))
            answer = {"ok": True, "result": result}
        except (KeyError, ValueError) as error:
            answer = {"ok": False, "error": f"not understood: {error}"}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def _command(self, command: str, name: str) -> Any:
        if command == "status":
            return self.status()
        if command == "down":
            self._ended.set()
            return "going down"
        if name in self.lab.boxes and command != "wipe":
            box = self.lab.boxes[name]
            await (box.cut() if command == "cut" else box.boot())
            return command
        host = self.lab.hosts[name]
        if command == "cut":
            await host.cut()
        elif command == "power":
            await host.boot()
        elif command == "wipe":  # another card in the same machine
            await host.cut()
            host.wipe()
        else:
            raise ValueError(command)
        return command


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 is success."""
    parser = argparse.ArgumentParser(prog="python -m twin.hosts", description=__doc__)
    parser.add_argument("verb", choices=["up", "down", "status", "cut", "power", "wipe"])
    parser.add_argument("host", nargs="?", default="")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--lab", type=Path)
    parser.add_argument("--tools", type=Path)
    parser.add_argument("--foreground", action="store_true")
    asked = parser.parse_args(arguments)
    try:
        if asked.verb == "up" and asked.foreground:
            _serve(asked)
        elif asked.verb == "up":
            print(_start(asked.state, sys.argv[1:] if arguments is None else arguments))
        elif asked.verb == "down":
            print(client.stop(asked.state))
        else:
            print(json.dumps(client.ask(asked.state, {"command": asked.verb, "host": asked.host})))
    except (client.NotRunning, client.Refused) as error:
        print(f"twin: {error}", file=sys.stderr)
        return 1
    return 0


def _serve(asked: argparse.Namespace) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    async def run() -> None:
        await Hosts(lab.load(asked.lab), asked.state.resolve(), asked.tools).run()

    asyncio.run(run())


def _start(state: Path, arguments: list[str]) -> str:
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / "twin.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "twin.hosts", *arguments, "--foreground"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends:
        if child.poll() is not None:
            raise client.Refused((state / "twin.log").read_text()[-2000:])
        if (state / "twin.json").exists() and client.running(state):
            return f"hosts up, pid {child.pid}"
        time.sleep(0.05)
    child.kill()
    raise client.Refused(f"not up after {_START_S} s; see {state}/twin.log")


if __name__ == "__main__":
    sys.exit(main())
