"""Measures how long the Kubernetes API did not answer at the VIP."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from providers.errors import HomelabError
from providers.kubernetes.client import Kube

EVERY_S = 0.05


class ApiGap:
    """While entered, asks the API at the VIP again and again; `longest_s` is the longest time without an answer."""

    def __init__(self, kubeconfig: str) -> None:
        self._kubeconfig = kubeconfig
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.longest_s = 0.0
        self.answers = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(30)

    def _watch(self) -> None:
        last = time.monotonic()
        while not self._stop.is_set():
            if self._answers():
                now = time.monotonic()
                self.longest_s, last, self.answers = max(self.longest_s, now - last), now, self.answers + 1
            time.sleep(EVERY_S)
        self.longest_s = max(self.longest_s, time.monotonic() - last)

    def _answers(self) -> bool:
        try:
            with Kube(self._kubeconfig, timeout_s=2) as kube:
                return kube.node("node1") is not None or True
        except HomelabError:
            return False
