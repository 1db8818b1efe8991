"""Commands on files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from twin.hosts.shell import Reply, command, said

if TYPE_CHECKING:
    from twin.hosts.host import Host


def _paths(argv: list[str]) -> list[str]:
    return [word for word in argv if not word.startswith("-")]


@command("cat")
def cat(host: Host, argv: list[str], stdin: bytes) -> Reply:
    """Files one after the other; without any, what comes in."""
    out = b"" if _paths(argv) else stdin
    for path in _paths(argv):
        file = host.path(path)
        if file.is_dir():
            return said(f"cat: {path}: Is a directory\n", 1)
        if not file.exists():
            return said(f"cat: {path}: No such file or directory\n", 1)
        out += file.read_bytes()
    return Reply(0, out)


@command("tee")
def tee(host: Host, argv: list[str], stdin: bytes) -> Reply:
    """What comes in, into a file and out again."""
    for path in _paths(argv):
        file = host.path(path)
        if not file.parent.is_dir():
            return said(f"tee: {path}: No such file or directory\n", 1)
        file.write_bytes(stdin)
    return Reply(0, stdin)


@command("install")
def install(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`install -D -m MODE SOURCE TARGET`."""
    if argv[:2] != ["-D", "-m"] or len(argv) != 5:
        return said("install: the twin knows `install -D -m MODE SOURCE TARGET`\n", 1)
    mode, source, target = argv[2:]
    data = b"" if source == "/dev/null" else host.path(source).read_bytes()
    host.put(target, data, int(mode, 8))
    return Reply()


@command("mv")
def mv(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """Rename over what is there."""
    source, target = _paths(argv)
    if not host.path(source).exists():
        return said(f"mv: cannot stat '{source}': No such file or directory\n", 1)
    host.path(source).replace(host.path(target))
    return Reply()


@command("rm")
def rm(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """`rm -rf`."""
    for path in _paths(argv):
        host.forget(path)
    return Reply()


@command("chmod")
def chmod(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """By an octal mode."""
    mode, *paths = _paths(argv)
    for path in paths:
        host.path(path).chmod(int(mode, 8))
    return Reply()


@command("mkdir")
def mkdir(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """With its parents."""
    for path in _paths(argv):
        host.path(path).mkdir(parents=True, exist_ok=True)
    return Reply()


@command("ls")
def ls(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """One name a line; `-d` says which of the paths are there."""
    lines, missing = list[str](), list[str]()
    for path in _paths(argv):
        file = host.path(path)
        if not file.exists():
            missing.append(f"ls: cannot access '{path}': No such file or directory\n")
        elif "-d" in argv or file.is_file():
            lines.append(path)
        else:
            lines += sorted(item.name for item in file.iterdir())
    out = "".join(f"{line}\n" for line in lines)
    return Reply(2 if missing else 0, out.encode(), "".join(missing).encode())


@command("sha256sum")
def sha256sum(host: Host, argv: list[str], _stdin: bytes) -> Reply:
    """Of files."""
    lines = ""
    for path in _paths(argv):
        if not host.path(path).is_file():
            return said(f"sha256sum: {path}: No such file or directory\n", 1)
        lines += f"{hashlib.sha256(host.path(path).read_bytes()).hexdigest()}  {path}\n"
    return said(lines)
