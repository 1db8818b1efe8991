"""A bucket on a real S3 server: moto's, a process of its own on loopback."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from tests.engine.sandbox import free_prefix

PORT = 9000
START_S = 60.0


class Bucket:
    """One bucket, as long as it is entered.

    Its contents are looked at over plain HTTP: moto asks nobody for a signature.
    """

    def __init__(self, folder: Path, name: str = "state") -> None:
        self.name = name
        self.server = f"{free_prefix()}.5:{PORT}"
        self._log = folder / "s3.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def backend(self) -> str:
        """What PULUMI_BACKEND_URL says."""
        return f"s3://{self.name}?endpoint={self.server}&disableSSL=true&s3ForcePathStyle=true&region=us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """The backend, and keys that the server takes without looking at them."""
        keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_EC2_METADATA_DISABLED": "true"}
        return {"PULUMI_BACKEND_URL": self.backend, **keys}

    def __enter__(self) -> Self:
        host = self.server.partition(":")[0]
        with self._log.open("w") as log:
            command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(PORT)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while True:
            try:
                self._ask("PUT", "")
                return self
            except urllib.error.URLError:
                if self._process.poll() is not None or time.monotonic() > end:
                    self.__exit__()
                    raise AssertionError(self._log.read_text()) from None
            time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()

    def objects(self) -> list[str]:
        """The names of its objects."""
        return re.findall(r"<Key>([^<]+)</Key>", self._ask("GET", "?list-type=2").decode())

    def put(self, key: str, content: bytes) -> None:
        """Store an object."""
        self._ask("PUT", f"/{key}", content)

    def _ask(self, method: str, path: str, content: bytes | None = None) -> bytes:
        kind = {"Content-Type": "application/json"}  # urllib's own word is a form's, of which the server keeps nothing
        request = urllib.request.Request(f"http://{self.server}/{self.name}{path}", content, kind, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())
