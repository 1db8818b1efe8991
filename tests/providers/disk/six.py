"""Write one card alone, then six at once, in this process; prints both times in seconds.

Arguments: the cards' paths, the slowest first. With `--pace`, cards are image files that this program slows down
itself; else the kernel slows loop devices down.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from providers.disk import card
from providers.disk.inventory import Disk, disks
from providers.disk.target import Target
from providers.turingpi.image import fetch
from tests.providers.disk import scene

SLOWEST_WRITE, WRITE, READ = 8_000_000, 12_000_000, 24_000_000  # bytes a second: a class 10 card, at half its speed


class Slow(Target):
    """An image file as slow as a card."""

    def __init__(self, disk: Disk, name: str) -> None:
        super().__init__(disk, name)
        self.rate = SLOWEST_WRITE if name == "pi0" else WRITE

    def write(self, offset: int, data: memoryview) -> None:
        """Take as long as the card would."""
        self._paced(lambda: super(Slow, self).write(offset, data), len(data) / self.rate)

    def read_into(self, offset: int, chunk: memoryview) -> None:
        """Take as long as the card would."""
        self._paced(lambda: super(Slow, self).read_into(offset, chunk), len(chunk) / READ)

    @staticmethod
    def _paced(step: Callable[[], None], seconds: float) -> None:
        end = time.monotonic() + seconds
        step()
        time.sleep(max(0.0, end - time.monotonic()))


def timed(cards: list[tuple[int, str]], image: Path, generation: int, cache: Path, paced: bool) -> float:
    """Seconds until the last of some cards is written, all begun at the same time."""
    seen = () if paced else disks()
    begin = threading.Barrier(len(cards) + 1)

    def one(number: int, path: str) -> None:
        wish = scene.wish(path, image, card=f"pi{number}", generation=generation)
        begin.wait()
        card.write(wish, cache=cache, seen=seen, open_target=Slow if paced else Target)

    with ThreadPoolExecutor(len(cards)) as pool:
        jobs = [pool.submit(one, *found) for found in cards]
        begin.wait()
        started = time.monotonic()
        for job in jobs:
            job.result()
        return time.monotonic() - started


def main(image: Path, paths: list[str], *, paced: bool) -> None:
    """Measure and print."""
    cards = list(enumerate(paths))
    cache = image.parent / "cache"
    fetch(str(image), cache=cache)  # measured once for ever, so not part of writing
    alone = timed(cards[:1], image, 1, cache, paced)
    together = timed(cards, image, 2, cache, paced)
    print(f"{alone:.3f} {together:.3f}")


if __name__ == "__main__":
    flags, rest = [a for a in sys.argv[1:] if a.startswith("--")], [a for a in sys.argv[1:] if not a.startswith("--")]
    main(Path(rest[0]), rest[1:], paced="--pace" in flags)
