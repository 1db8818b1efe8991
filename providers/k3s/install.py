"""Gets a version of k3s onto a host: downloaded by the host, checked against the release's own checksums."""

from __future__ import annotations

import shlex
from urllib.parse import quote

from providers import pace
from providers.errors import FlashError, RefusedError
from providers.k3s import files
from providers.ssh.client import Host

_FOLDER = "/var/lib/homelab"
_SUMS = f"{_FOLDER}/k3s.sha256"
_SCRIPT = f"{_FOLDER}/k3s-install.sh"
_NEW = "/usr/local/bin/.k3s.new"
_DOWNLOAD_S = 900.0
_MACHINES = {"x86_64": ("k3s", "amd64"), "aarch64": ("k3s-arm64", "arm64"), "armv7l": ("k3s-armhf", "arm")}


def version(host: Host) -> str:
    """The version that is there, "" where there is none."""
    if not host.run(f"ls -d -- {files.BINARY}", check=False).out.strip():
        return ""
    words = host.run(f"{files.BINARY} --version", check=False).out.split()
    return words[2] if len(words) > 2 else ""


def binary(host: Host, wanted: str, releases: str) -> bool:
    """Have the program be of this version; whether it was exchanged. The running one goes on until its restart.

    Raises:
        RefusedError: the host can't download it, or its machine has no k3s.
        FlashError: what came is not what was published.
    """
    if version(host) == wanted:
        return False
    machine = host.run("uname -m").out.strip()
    if machine not in _MACHINES:
        raise RefusedError(f"{host.target.place}: there is no k3s for {machine}")
    name, short = _MACHINES[machine]
    base = f"{releases}/{quote(wanted, safe='')}"
    host.run(f"mkdir -p {_FOLDER}")
    _download(host, f"{base}/sha256sum-{short}.txt", _SUMS)
    _download(host, f"{base}/{name}", _NEW)
    sums = {line.split()[1]: line.split()[0] for line in _text(host, _SUMS).splitlines() if len(line.split()) == 2}
    seen = host.run(f"sha256sum {_NEW}").out.split()[0]
    if sums.get(name) != seen:
        host.remove(_NEW)
        raise FlashError(
            f"{host.target.place}: {base}/{name} has SHA-256 {seen}, and {sums.get(name, 'none')} was published; "
            "it was thrown away: run this again, or look at what answers there"
        )
    host.run(f"chmod 0755 {_NEW}")
    host.run(f"mv -f -- {_NEW} {files.BINARY}")
    return True


def service(host: Host, role: str, wanted: str, scripts: str) -> bool:
    """Have the unit and the scripts that go with it; whether they were made. Nothing is started."""
    unit = files.unit(role)
    if host.read(f"/etc/systemd/system/{unit}.service") is not None:
        return False
    host.run(f"mkdir -p {_FOLDER}")
    _download(host, f"{scripts}/{quote(wanted, safe='')}/install.sh", _SCRIPT)
    variables = f"INSTALL_K3S_SKIP_DOWNLOAD=true INSTALL_K3S_SKIP_START=true INSTALL_K3S_EXEC={files.subcommand(role)}"
    host.run(f"env {variables} sh {_SCRIPT}", timeout_s=pace.limit(120))
    return True


def _download(host: Host, url: str, path: str) -> None:
    limit_s = pace.limit(_DOWNLOAD_S)
    answer = host.run(f"curl -fsSL --retry 3 -o {path} {shlex.quote(url)}", timeout_s=limit_s, check=False)
    if answer.code != 0:
        raise RefusedError(
            f"{host.target.place}: can't download {url}: {answer.err.strip()}; see that it reaches the internet, or "
            "name a mirror (releases, scripts) in the cluster's k3s settings"
        )


def _text(host: Host, path: str) -> str:
    return (host.read(path) or b"").decode(errors="replace")
