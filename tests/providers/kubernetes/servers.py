"""A real etcd and a real kube-apiserver on loopback; what a kubelet and the disruption controller do, tests do."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from providers.deadline import Deadline
from providers.kubernetes.client import Kube
from providers.kubernetes.kubeconfig import Access
from tests.providers.kubernetes.wire import Authority, kubeconfig
from tools import paths

# Tests may be spread over processes, each with servers of its own.
HOST = f"127.107.1.{1 + int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw'))}"
START_S = 60.0


@dataclass(frozen=True)
class Cluster:
    """A running API, with an admin's client of the tests' own beside the one that is tested."""

    kubeconfig: str
    http: httpx2.Client

    def make(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create an object."""
        return self._done(self.http.post(path, json=body))

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Merge into an object."""
        return self._done(self.http.patch(path, json=body, headers={"Content-Type": "application/merge-patch+json"}))

    def get(self, path: str) -> dict[str, Any]:
        """Read an object or a list."""
        return self._done(self.http.get(path))

    def end(self, path: str) -> None:
        """Delete an object at once, as a kubelet does when its containers have ended."""
        self.http.request("DELETE", path, json={"gracePeriodSeconds": 0})

    def _done(self, answer: httpx2.Response) -> dict[str, Any]:
        if not answer.is_success:
            raise RuntimeError(answer.text)
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def cluster(folder: Path, host: str = HOST, *flags: str) -> Iterator[Cluster]:
    """Start both servers, end them by their own process ids; where they are not built, the test is skipped.

    Args:
        folder: for all files; the authority is `ca.pem` and `ca.key`.
        host: that both listen on.
        flags: more of the API server's.
    """
    tools = paths.servers_bin()
    if not (tools / "kube-apiserver").exists():
        pytest.skip("the servers are not built here")
    authority = Authority()
    certificate, key = authority.issue("kube-apiserver", addresses=(host,))
    files = {"ca.pem": authority.pem, "ca.key": authority.key, "server.pem": certificate, "server.key": key}
    for name, text in files.items():
        (folder / name).write_text(text)
    config = kubeconfig(authority, f"https://{host}:6443")
    with ExitStack() as stack:
        stack.enter_context(process(folder, tools / "etcd", *_etcd(folder, host)))
        server = stack.enter_context(process(folder, tools / "kube-apiserver", *_apiserver(folder, host), *flags))
        with Kube(config) as kube:
            Deadline(START_S).poll(lambda: kube.healthy() or server.poll() is not None or None, "kube-apiserver", 0.05)
        if server.poll() is not None:
            raise RuntimeError((folder / "kube-apiserver.log").read_text()[-2000:])
        http = stack.enter_context(
            httpx2.Client(base_url=f"https://{host}:6443", verify=Access.parse(config).tls(), trust_env=False)
        )
        yield Cluster(config, http)


def _etcd(folder: Path, host: str) -> list[str]:
    client, peer = f"http://{host}:2379", f"http://{host}:2380"
    return [
        "--name=test",
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=test={peer}",
        "--unsafe-no-fsync",
    ]


def _apiserver(folder: Path, host: str) -> list[str]:
    return [
        f"--etcd-servers=http://{host}:2379",
        f"--bind-address={host}",
        f"--advertise-address={host}",
        "--secure-port=6443",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=10.96.0.0/16",
        f"--tls-cert-file={folder / 'server.pem'}",
        f"--tls-private-key-file={folder / 'server.key'}",
        f"--client-ca-file={folder / 'ca.pem'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'server.key'}",
        f"--service-account-signing-key-file={folder / 'server.key'}",
        "--authorization-mode=Node,RBAC",
        "--enable-bootstrap-token-auth",
        "--disable-admission-plugins=ServiceAccount",
    ]


@contextmanager
def process(folder: Path, program: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server for as long as the body runs; it is ended by its id."""
    with (folder / f"{program.name}.log").open("w") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log, env={"HOME": os.devnull})
        try:
            yield process
        finally:
            process.kill()
            process.wait()
