"""What a host understands: single commands out of a strict table. Anything else ends with 127, as in a real shell.

Nothing is interpreted: no pipes, no lists, no variables. A client that relied on them could fool itself here.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twin.hosts.host import Host


@dataclass(frozen=True)
class Reply:
    """How a command ended."""

    code: int = 0
    out: bytes = b""
    err: bytes = b""


def said(text: str, code: int = 0) -> Reply:
    """A reply of words: on stdout, or on stderr where it failed."""
    return Reply(code, b"", text.encode()) if code else Reply(0, text.encode())


Command = Callable[["Host", list[str], bytes], Reply | Awaitable[Reply]]
TABLE: dict[str, Command] = {}
"""Program -> what plays it. Filled by the modules that play programs, on import."""


def command(*names: str) -> Callable[[Command], Command]:
    """Register a function as what plays a program; it gets the host, the words after its name, and stdin."""

    def register(function: Command) -> Command:
        TABLE.update(dict.fromkeys(names, function))
        return function

    return register


def words(line: str) -> list[str]:
    """The words of one command. Raises ValueError where the line is more than that."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>()")
    lexer.whitespace_split = True
    found = list(lexer)
    bare = re.sub(r"'[^']*'", "", line.replace('"\'"', ""))  # as a quote inside of quotes is written
    if any(word and set(word) <= set("|&;<>()") for word in found) or "`" in bare or "$" in bare:
        raise ValueError("not a single command")
    return found


async def run(host: Host, user: str, line: str, stdin: bytes) -> Reply:
    """Run a command line as a user."""
    try:
        argv = words(line)
        if argv[:5] == ["sudo", "-n", "--", "sh", "-c"] and len(argv) == 6:
            argv, user = words(argv[5]), "root"
    except ValueError as error:
        return said(f"sh: 1: Syntax error: {error}\n", 127)
    program = TABLE.get(argv[0]) if argv else None
    if program is None:
        host.emit("unknown_command", line=argv[0] if argv else "")
        return said(f"sh: 1: {argv[0] if argv else ''}: not found\n", 127)
    if user != "root" and argv[0] != "id":
        return said(f"{argv[0]}: Permission denied\n", 1)
    answer = program(host, argv[1:], stdin)
    return answer if isinstance(answer, Reply) else await answer
