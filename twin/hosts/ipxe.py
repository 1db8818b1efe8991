"""iPXE: scripts that are fetched over HTTP, in a small part of its language (https://ipxe.org/scripting).

Whatever the real one does not do, this one does not either: a command that fails ends its script unless `||` follows,
and an unknown command fails.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

import aiohttp

Say = Callable[[str], None]
Sleep = Callable[[float], Awaitable[None]]
_MAGIC = "#!ipxe"
_LIMIT = 10_000  # lines of one boot: a script that goes round without a pause is a mistake
_SETTING = re.compile(r"\$\{([^}:]*)(?::(\w+))?\}")
_VALUED = ("--timeout", "--name")
_JOINS = ("&&", "||", ";")


class CommandFailed(Exception):
    """A command of a script failed; the text says which and why."""


@dataclass
class Loaded:
    """What is in memory when the kernel starts.

    Attributes:
        cmdline: the kernel's arguments.
        initrds: name -> content, of those that are a whole initramfs.
        files: path -> content, of those that iPXE puts into the root.
    """

    kernel: bytes
    cmdline: tuple[str, ...]
    initrds: dict[str, bytes]
    files: dict[str, bytes]


@dataclass
class Image:
    """Something that was fetched; what follows its URL goes to whoever gets it."""

    content: bytes
    words: tuple[str, ...] = ()


@dataclass
class Ipxe:
    """One boot of a machine by its own iPXE.

    Args:
        settings: what it knows of its machine, such as `netX/mac`.
        sleep: lets device time pass.
        say: told what would be on the console.
    """

    settings: dict[str, str]
    sleep: Sleep
    say: Say
    _images: dict[str, Image] = field(default_factory=dict)
    _kernel: str = ""
    _initrds: list[str] = field(default_factory=list)

    async def boot(self, url: str) -> Loaded | None:
        """Run the script at a URL; None when it gives up, and the firmware goes on to its next boot device."""
        try:
            text: str | None = (await _fetched(url, 20)).decode(errors="replace")
            lines = 0
            while text is not None:
                script = _Script(self, text)
                text, lines = await script.run(lines)
                if script.booted:
                    return self._loaded()
        except CommandFailed as error:
            self.say(str(error))
        return None

    def expand(self, line: str) -> str:
        """A line with its settings filled in; what is not set is empty."""
        return _SETTING.sub(lambda found: _formatted(self.settings.get(found[1], ""), found[2] or ""), line)

    async def fetch(self, words: list[str]) -> str:
        """Fetch what a command's words say; gives the image's name."""
        options, rest = _options(words)
        if not rest:
            raise CommandFailed(f"{words}: no URL")
        url = rest[0]
        content = await _fetched(url, float(options.get("--timeout", "0")) / 1000 or 60)
        name = options.get("--name") or urlsplit(url).path.rpartition("/")[2]
        self._images[name] = Image(content, tuple(rest[1:]))
        return name

    async def kernel(self, words: list[str]) -> None:
        """Fetch what will be started."""
        self._kernel = await self.fetch(words)

    async def initrd(self, words: list[str]) -> None:
        """Fetch what the kernel finds in memory."""
        self._initrds.append(await self.fetch(words))

    def free(self) -> None:
        """Forget all that was fetched."""
        self._images.clear()
        self._initrds.clear()
        self._kernel = ""

    async def chained(self, words: list[str]) -> str:
        """The script that takes this one's place: an image that is there, or a URL."""
        replaces = "--replace" in words
        words = [word for word in words if word != "--replace"]
        _, rest = _options(words)
        if not replaces or not rest:
            raise CommandFailed("chain: the twin knows `chain --replace IMAGE|URL`")
        name = rest[0] if rest[0] in self._images else await self.fetch(words)
        image = self._images.pop(name)
        if not image.content.startswith(_MAGIC.encode()):
            raise CommandFailed(f"{name}: Exec format error")
        return image.content.decode(errors="replace")

    def check_bootable(self) -> None:
        """`boot` fails without a kernel."""
        if not self._kernel:
            raise CommandFailed("boot: no image was selected")

    def _loaded(self) -> Loaded:
        kernel = self._images[self._kernel]
        loaded = Loaded(kernel.content, kernel.words, {}, {})
        for name in self._initrds:
            image = self._images[name]
            if image.words:
                loaded.files[image.words[0]] = image.content
            else:
                loaded.initrds[name] = image.content
        return loaded


class _Script:
    """One script, from its first line to whatever ends it."""

    def __init__(self, ipxe: Ipxe, text: str) -> None:
        self._ipxe = ipxe
        self._lines = text.splitlines()
        self._at = 0
        self._next: str | None = None
        self._over = False
        self.booted = False

    async def run(self, lines: int) -> tuple[str | None, int]:
        """Run it. Gives the script that takes its place, and how many lines there were by now. Raises CommandFailed."""
        while self._at < len(self._lines) and not self._over:
            line = self._lines[self._at].strip()
            self._at += 1
            lines += 1
            if lines > _LIMIT:
                raise CommandFailed("goes round without end")
            if line and line[0] not in "#:":
                await self._line(line)
        return self._next, lines

    async def _line(self, line: str) -> None:
        """Commands with `&&` and `||` between them, from left to right; a failure that nobody catches ends it all."""
        failure: CommandFailed | None = None
        join = ";"
        for words, following in _commands(self._ipxe.expand(line).split()):
            if join == ";" or (join == "&&") == (failure is None):
                failure = await self._tried(words)
            join = following
            if self._over:
                return
        if failure is not None:
            raise failure

    async def _tried(self, words: list[str]) -> CommandFailed | None:
        try:
            if words:
                await self._command(words[0], words[1:])
        except CommandFailed as error:
            return error
        return None

    async def _command(self, name: str, words: list[str]) -> None:
        ipxe = self._ipxe
        loads: dict[str, Callable[[list[str]], Awaitable[object]]] = {
            "imgfetch": ipxe.fetch, "kernel": ipxe.kernel, "initrd": ipxe.initrd,
        }  # fmt: skip
        if name in loads:
            await loads[name](words)
            return
        match name:
            case "echo":
                ipxe.say(" ".join(words))
            case "set":
                ipxe.settings[words[0]] = " ".join(words[1:])
            case "sleep":
                await ipxe.sleep(float(words[0]))
            case "imgfree":
                ipxe.free()
            case "chain":
                self._next = await ipxe.chained(words)
                self._over = True
            case "goto":
                self._goto(words[0])
            case "boot":
                ipxe.check_bootable()
                self.booted = self._over = True
            case "exit":
                self._over = True
            case _:
                raise CommandFailed(f"{name}: command not found")

    def _goto(self, label: str) -> None:
        places = [at for at, line in enumerate(self._lines) if line.strip() == f":{label}"]
        if not places:
            raise CommandFailed(f"goto {label}: No such file or directory")
        self._at = places[0] + 1


def _commands(words: list[str]) -> list[tuple[list[str], str]]:
    """Single commands, each with what joins it to the next; what follows a `#` is a comment."""
    found: list[tuple[list[str], str]] = []
    current: list[str] = []
    for word in words:
        if word.startswith("#"):
            break
        if word in _JOINS:
            found.append((current, word))
            current = []
        else:
            current.append(word)
    return [*found, (current, ";")]


def _options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Options with a value, which stand before all else, and the rest."""
    options: dict[str, str] = {}
    while words and words[0] in _VALUED and len(words) > 1:
        options[words[0]] = words[1]
        words = words[2:]
    if words and words[0].startswith("-"):
        raise CommandFailed(f"unrecognised option {words[0]}")
    return options, words


def _formatted(value: str, kind: str) -> str:
    return {"hexhyp": value.replace(":", "-"), "uristring": quote(value)}.get(kind, value)


async def _fetched(url: str, limit_s: float) -> bytes:
    """What is at a URL. Raises CommandFailed, which does not show the path: a config's is a secret."""
    name = urlsplit(url).path.rpartition("/")[2]
    try:
        limit = aiohttp.ClientTimeout(total=limit_s)
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(url) as answer:
            if answer.status != 200:
                raise CommandFailed(f"{name}: HTTP {answer.status}")
            return await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise CommandFailed(f"{name}: {type(error).__name__}") from None


def machine(mac: str, address: str, uuid: str, more: Mapping[str, str]) -> dict[str, str]:
    """The settings of a machine's own iPXE."""
    return {"netX/mac": mac, "netX/ip": address, "uuid": uuid, **more}
