"""The thread that asyncssh's loop runs on, so that everything above it may simply block."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_GRACE_S = 5.0  # what a coroutine with a limit of its own may take beyond it before its caller gives up on the loop

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def blocking(work: Coroutine[Any, Any, T], limit_s: float) -> T:
    """Run a coroutine on the loop's thread and wait for its end.

    Raises:
        TimeoutError: it took longer than `limit_s` seconds; it was cancelled.
    """
    future = asyncio.run_coroutine_threadsafe(_limited(work, limit_s), _running())
    try:
        return future.result(limit_s + _GRACE_S)
    except concurrent.futures.TimeoutError:
        future.cancel()
        raise TimeoutError from None


async def _limited(work: Coroutine[Any, Any, T], limit_s: float) -> T:
    async with asyncio.timeout(limit_s):
        return await work


def _running() -> asyncio.AbstractEventLoop:
    global _loop  # noqa: PLW0603  # one loop for the process
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="ssh", daemon=True).start()
        return _loop
