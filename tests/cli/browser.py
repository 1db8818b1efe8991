"""A real browser without a window, driven over the two pipes that Chromium opens for it: no driver, no port.

Protocol source: https://chromedevtools.github.io/devtools-protocol/ (`--remote-debugging-pipe`: descriptors 3 and 4,
one JSON object a message, ended by a zero byte).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ABSENT = "no Chromium on this machine, so no page was looked at in a browser; install it: apt install chromium"
LIMIT_S = 60.0
OPTIONS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--font-render-hinting=none",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # no name leads anywhere
)
# The program wants its pipes at 3 and 4, whatever their numbers are here.
PIPES = (
    "import os, sys; r, w = (os.dup(int(n)) for n in sys.argv[1:3]); r, w = (os.dup(n) for n in (r, w))\n"
    "os.dup2(r, 30); os.dup2(w, 31); os.dup2(30, 3); os.dup2(31, 4); os.execvp(sys.argv[3], sys.argv[3:])"
)


def program() -> str | None:
    """Where the browser is; None when there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@dataclass
class Browser:
    """A running browser: messages to it, answers and events from it."""

    to: int
    back: int
    _sent: int = 0
    _rest: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)

    def call(self, method: str, session: str = "", **parameters: Any) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        self._sent += 1
        message = {
            "id": self._sent,
            "method": method,
            "params": parameters,
            **({"sessionId": session} if session else {}),
        }
        os.write(self.to, json.dumps(message).encode() + b"\0")
        answer = self._until(lambda found: found.get("id") == self._sent, method)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def wait(self, method: str, session: str) -> dict[str, Any]:
        """Wait for an event."""
        return self._until(lambda found: found.get("method") == method and found.get("sessionId") == session, method)

    def _until(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        end = time.monotonic() + LIMIT_S
        while True:
            message = self._message(end, what)
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message

    def _message(self, end: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self.back], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(f"the browser does not answer to {what}")
            data = os.read(self.back, 1 << 20)
            if not data:
                raise EOFError("the browser has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, path: Path, width: int, height: int, scheme: str = "light") -> Page:
        """Load a page from a file, as a screen of that width shows it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable", session)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            session,
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", session, features=features)
        self.call("Page.navigate", session, url=path.as_uri())
        self.wait("Page.loadEventFired", session)
        return Page(self, session, target)


@dataclass(frozen=True)
class Page:
    """A page that is open."""

    browser: Browser
    session: str
    target: str

    @property
    def requests(self) -> list[str]:
        """Every address that the page has asked for, or would have."""
        mine = [event for event in self.browser.events if event.get("sessionId") == self.session]
        return [e["params"]["request"]["url"] for e in mine if e["method"] == "Network.requestWillBeSent"]

    @property
    def complaints(self) -> list[str]:
        """What the browser's console says against it."""
        mine = [event for event in self.browser.events if event.get("sessionId") == self.session]
        return [e["params"]["entry"]["text"] for e in mine if e["method"] == "Log.entryAdded"]

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, evaluated from outside of the page."""
        answer = self.browser.call("Runtime.evaluate", self.session, expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(str(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def accessible(self) -> list[tuple[str, str]]:
        """Role and name of everything that a screen reader is told of."""
        nodes = self.browser.call("Accessibility.getFullAXTree", self.session)["nodes"]
        return [
            (node["role"]["value"], str(node.get("name", {}).get("value", ""))) for node in nodes if not node["ignored"]
        ]

    def picture(self, path: Path, of: str = "body", most: int = 1 << 14) -> None:
        """A part of the page as a PNG, by its selector: its first `most` pixels from above."""
        box = self.value(f"(({{x, y, width, height}}) => ({{x, y, width, height}}))({_box(of)})")
        clip = {**box, "height": min(box["height"], most), "scale": 1}
        shot = self.browser.call("Page.captureScreenshot", self.session, captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """Close it."""
        self.browser.call("Target.closeTarget", targetId=self.target)


def _box(selector: str) -> str:
    return f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"


@contextmanager
def running(executable: str, profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile; it ends with the block, by its own process group."""
    to_read, to_write = os.pipe()
    back_read, back_write = os.pipe()
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()  # Chromium refuses root a sandbox
    command = [executable, *OPTIONS, *sandbox, f"--user-data-dir={profile}"]
    with subprocess.Popen(
        [sys.executable, "-c", PIPES, str(to_read), str(back_write), *command],
        pass_fds=(to_read, back_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        os.close(to_read)
        os.close(back_write)
        try:
            yield Browser(to_write, back_read)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            os.close(to_write)
            os.close(back_read)
