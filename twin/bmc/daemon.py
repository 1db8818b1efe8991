"""bmcd as a process: it starts, crashes, is restarted, and takes what it kept in memory with it."""

import asyncio
import logging
from collections.abc import Callable

from aiohttp import web

from twin.bmc import certificate
from twin.bmc.auth import Auth
from twin.bmc.flash import Flasher
from twin.board import Board
from twin.faults import Fault
from twin.lab import Lab

log = logging.getLogger("twin")
_DEFAULT_PASSWORD = "turing"  # noqa: S105 - the one that every board is sold with

Application = Callable[["Daemon"], web.Application]


class Daemon:
    """One board's bmcd with its listening sockets."""

    def __init__(self, lab: Lab, board: Board, application: Application, redirect: Application) -> None:
        self.lab = lab
        self.board = board
        self.auth = self._fresh_auth()
        self.flasher = Flasher(lab, board, self.crash)
        self.busy = asyncio.Lock()  # the auth mutex that bmcd holds through a whole request (facts A3)
        self._applications = (application, redirect)
        self._runners: list[web.AppRunner] = []
        self._folder = lab.folder / "boards" / board.name
        for name, handler in self._handlers().items():
            lab.faults.on_now(name, self._mine(handler))

    @property
    def listening(self) -> bool:
        """Whether bmcd answers."""
        return bool(self._runners)

    async def start(self) -> None:
        """Power up: apply the stored power bits, then listen. Raises OSError when a port is taken or forbidden."""
        self.board.load()
        await self.listen()

    async def listen(self) -> None:
        """Open the API's port, and the one of the redirect where the lab has it."""
        spec = self.board.spec
        tls = None if spec.version < (2, 0) else certificate.context(self._folder)
        main, redirect = self._applications
        await self._serve(main, spec.port, tls)
        if spec.http_port is not None and tls is not None:
            await self._serve(redirect, spec.http_port, None)

    async def close(self) -> None:
        """Stop listening and cut what is connected."""
        runners, self._runners = self._runners, []
        for runner in runners:
            await runner.cleanup()

    def crash(self, back_s: float | None) -> None:
        """A killed bmcd: connections are refused until somebody restarts it, here after `back_s` device seconds."""
        log.info("%s: bmcd is gone", self.board.name)
        self.lab.events.emit("bmc_down", board=self.board.name)
        self.flasher.crash()
        self.lab.spawn(self._down(back_s), f"crash {self.board.name}")

    async def reload(self) -> None:
        """Restart bmcd in place: tokens are lost, power outputs are set again (bmcd issue 90)."""
        self.board.store()
        await self._restart(self.lab.times.bmc_reload_s)

    async def reboot(self) -> None:
        """Reboot the BMC; on v2.4 boards the nodes lose their power meanwhile (facts A5)."""
        self.board.store()
        if self.board.spec.revision == "v2.4":
            self.board.cut()
        await self._restart(self.lab.times.bmc_boot_s)

    async def network_down(self, for_s: float) -> None:
        """The bridge goes down and up again: nobody reaches the BMC meanwhile."""
        await self.lab.clock.sleep(1)
        self.lab.events.emit("bmc_down", board=self.board.name)
        await self.close()
        await self.lab.clock.sleep(for_s)
        await self.listen()
        self.lab.events.emit("bmc_up", board=self.board.name)

    async def _down(self, back_s: float | None) -> None:
        await self.close()
        if back_s is not None:
            await self.lab.clock.sleep(back_s)
            await self._up()

    async def _restart(self, down_s: float) -> None:
        await asyncio.sleep(0.02)  # let the answer out
        self.lab.events.emit("bmc_down", board=self.board.name)
        self.flasher.crash()
        await self._down(down_s)

    async def _up(self) -> None:
        if self._runners:
            return
        self.auth = self._fresh_auth()
        self.busy = asyncio.Lock()
        self.board.load()
        await self.listen()
        self.lab.events.emit("bmc_up", board=self.board.name)

    def _fresh_auth(self) -> Auth:
        spec = self.board.spec
        return Auth(
            self.lab.clock,
            spec.username,
            spec.password,
            lambda: self.lab.events.emit("bad_login", board=self.board.name),
        )

    async def _serve(self, application: Application, port: int, tls: object) -> None:
        runner = web.AppRunner(
            application(self), handler_cancellation=True, lingering_time=0, shutdown_timeout=0.1, access_log=None
        )  # an answer before the body was read ends the connection, as actix does
        await runner.setup()
        self._runners.append(runner)
        await web.TCPSite(runner, str(self.board.spec.address), port, ssl_context=tls, reuse_address=True).start()  # type: ignore[arg-type]

    def _handlers(self) -> dict[str, Callable[[Fault], None]]:
        spawn = self.lab.spawn
        return {
            "bmc-crash": lambda fault: self.crash(fault.number("for_s", 0) or None),
            "bmc-start": lambda fault: void(spawn(self._up(), "start")),
            "bmc-reboot": lambda fault: void(spawn(self.reboot(), "reboot")),
            "bmc-password": lambda fault: self.auth.change_password(fault.params.get("password", _DEFAULT_PASSWORD)),
            "bmc-certificate": lambda fault: void(spawn(self._new_certificate(), "certificate")),
            "bmc-tokens-expired": lambda fault: self.auth.expire_tokens(),
            "bmc-tokens-lost": lambda fault: self.auth.forget_tokens(),
        }

    def _mine(self, handler: Callable[[Fault], None]) -> Callable[[Fault], None]:
        def play(fault: Fault) -> None:
            if fault.board in (None, self.board.name):
                handler(fault)

        return play

    async def _new_certificate(self) -> None:
        await self.close()
        certificate.create(self._folder)
        await self.listen()


def void(task: asyncio.Task[None]) -> None:
    """The task is looked after by the lab."""
