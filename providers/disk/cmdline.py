"""The kernel's command line on a boot partition: one line of words."""

from __future__ import annotations

from collections.abc import Iterable

from providers.errors import FlashError

FILE = "cmdline.txt"


def with_words(content: bytes | None, words: Iterable[str], what: str) -> bytes:
    """The line with the words in it; one that sets the same thing (`name=`) is replaced, the others keep their order.

    `cgroup_enable=cpuset cgroup_enable=memory` are two settings, so only equal words are one for that name.

    Raises:
        FlashError: the file is missing or empty: without its root= no system starts.
    """
    present = (content or b"").decode("utf-8", "replace").split()
    if not present:
        raise FlashError(f"{what}: its boot partition has no {FILE}, so it is no image for a Raspberry Pi")
    for word in words:
        name, equals, _ = word.partition("=")
        if equals and name not in _REPEATED:
            present = [old for old in present if not old.startswith(f"{name}=")]
        if word not in present:
            present.append(word)
    return (" ".join(present) + "\n").encode()


_REPEATED = ("console", "cgroup_enable", "cgroup_disable", "modules")
