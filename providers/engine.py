"""What the Python SDK leaves out between a dynamic provider and its engine: threads, progress, and the engine's death.

The SDK runs `python -u -m pulumi.dynamic ENGINE_ADDRESS` once for a whole program, and serves every call on four
threads. All that is special about this process is in this file.
"""

from __future__ import annotations

import inspect
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import grpc
import pulumi
from pulumi.runtime import resource as sdk
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, source_pb2

WORKERS = 512  # a thread costs little while it waits for a device; four would make a queue of every long flash
WATCH_INTERVAL_S = 0.5


def keep_debug_to_itself() -> None:
    """Keep the SDK's debug lines from the engine: they hold every resource's properties, secrets in plain.

    The engine writes them into its event log at any verbosity, and a run that is killed leaves that log behind.
    """
    pulumi.log.debug = lambda *_, **__: None


def _frames() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def serves_an_engine() -> bool:
    """Whether this process is the SDK's provider process."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return getattr(spec, "name", "") == "pulumi.dynamic.__main__"


def widen_workers() -> None:
    """Let the executor that runs this very call grow past the SDK's four threads.

    The SDK offers no setting, so the executor is found where its worker holds it, up this thread's stack. An
    executor looks at `_max_workers` whenever work arrives, so raising it is all there is to do.
    """
    for frame in _frames():
        reference = frame.f_locals.get("executor_reference")
        executor = reference() if callable(reference) else None
        if isinstance(executor, ThreadPoolExecutor):
            executor._max_workers = max(executor._max_workers, WORKERS)  # noqa: SLF001  # the SDK has no setting
            return


def current_request() -> Any:
    """The request of the engine's running call, or None outside one.

    The SDK keeps it to itself, so it is read from the servicer's frame.
    """
    for frame in _frames():
        request = frame.f_locals.get("request")
        if getattr(request, "urn", ""):
            return request
    return None


def current_urn() -> str:
    """The URN of the resource that the engine's running call is about, or "" outside one."""
    return str(getattr(current_request(), "urn", ""))


def forget_stack_traces() -> None:
    """Have the SDK record no stack trace with a resource.

    It takes one of some twenty frames for every resource: a quarter of a state that the engine writes anew at every
    step, and a tenth of the program's time. The SDK offers no setting; only debuggers of the engine read them.
    """
    sdk._get_stack_trace = source_pb2.StackTrace  # noqa: SLF001  # the SDK has no setting


class Reporter:
    """Words on one resource's row of the engine's display."""

    def __init__(self, urn: str | None = None) -> None:
        self._urn = current_urn() if urn is None else urn
        self._shown = ""

    def progress(self, text: str) -> None:
        """Show `text` as the row's status until the next one; it is not kept. Said again, it costs nothing."""
        if text == self._shown:
            return
        self._shown = text
        self._log(text, engine_pb2.INFO, ephemeral=True)

    def info(self, text: str) -> None:
        """Add a line that stays in the run's summary."""
        self._log(text, engine_pb2.INFO, ephemeral=False)

    def warn(self, text: str) -> None:
        """Add a warning that stays in the run's summary."""
        self._log(text, engine_pb2.WARNING, ephemeral=False)

    def _log(self, text: str, severity: engine_pb2.LogSeverity.ValueType, *, ephemeral: bool) -> None:
        stub = _engine()
        if stub is None:
            return
        request = engine_pb2.LogRequest(severity=severity, message=text, urn=self._urn, ephemeral=ephemeral)
        try:
            stub.Log(request, timeout=5)
        except grpc.RpcError:
            return  # words are never worth failing for; a dead engine is noticed by the watch


_stub_lock = threading.Lock()
_stub: engine_pb2_grpc.EngineStub | None = None


def _engine() -> engine_pb2_grpc.EngineStub | None:
    global _stub  # noqa: PLW0603  # one channel for the process
    with _stub_lock:
        if _stub is None and serves_an_engine() and len(sys.argv) > 1:
            _stub = engine_pb2_grpc.EngineStub(grpc.insecure_channel(sys.argv[1]))
        return _stub


def engine_is_gone(parent: int, address: str) -> bool:
    """Whether the engine that started this process has ended: the parent changed, or its port is closed."""
    if os.getppid() != parent:
        return True
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def _end_with_the_engine(parent: int, address: str) -> None:
    while not engine_is_gone(parent, address):
        time.sleep(WATCH_INTERVAL_S)
    os._exit(75)  # at once: a killed run must not go on flashing beside the next one


def adapt_process() -> None:
    """Make this provider process wide enough and mortal; does nothing in any other process. Called on import."""
    if not serves_an_engine() or len(sys.argv) < 2:
        return
    widen_workers()
    watch = threading.Thread(target=_end_with_the_engine, args=(os.getppid(), sys.argv[1]), daemon=True)
    watch.start()
