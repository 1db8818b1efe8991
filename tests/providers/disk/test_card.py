"""Writing cards: image files that play cards, and disks that fail."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import subprocess
from pathlib import Path

import pytest

from providers.deadline import Deadline
from providers.disk import card as cards
from providers.disk import fat, inventory, marker
from providers.disk.inventory import Disk
from providers.disk.marker import WRITING, WRITTEN, Marker
from providers.disk.target import Target
from providers.disk.wish import Wish
from providers.errors import DeadlineError, FlashError, RefusedError
from tests.providers.disk import scene
from tests.providers.disk.scene import MIB, card_file, loop, mbr, needs_root, plain_image, wish


def write(wished: Wish, cache: Path, **rest: object) -> tuple[cards.Written, list[str]]:
    said: list[str] = []
    return cards.write(wished, said.append, cache=cache, seen=(), **rest), said  # type: ignore[arg-type]


def quick_xz(data: bytes) -> bytes:
    return lzma.compress(data, preset=0)


def holds(card: Path, image: Path) -> bool:
    """Whether the card has every byte of the image but its note."""
    wanted, found = bytearray(image.read_bytes()), bytearray(card.read_bytes()[: image.stat().st_size])
    for data in (wanted, found):
        data[marker.OFFSET : marker.OFFSET + marker.BYTES] = b""
    return wanted == found


def note(card: Path) -> Marker | None:
    return marker.read(card.read_bytes()[marker.OFFSET : marker.OFFSET + marker.BYTES])


def put_note(card: Path, found: Marker) -> None:
    with card.open("r+b") as file:
        file.seek(marker.OFFSET)
        file.write(found.block())


def test_an_image_is_written_whole_and_noted(card: Path, image: Path, cache: Path) -> None:
    done, said = write(wish(card, image), cache)
    assert holds(card, image)
    assert done.raw_sha256 == scene.digest(image.read_bytes())
    assert note(card) == Marker("pi1", 1, WRITTEN, done.raw_sha256)
    assert said[0].startswith(f"ERASING {card}, 67 MB; it holds: nothing that is known; it gets: talos as pi1")


@pytest.mark.parametrize(("end", "pack"), [("xz", quick_xz), ("gz", gzip.compress)])
def test_a_packed_image_is_unpacked_once_and_removed(
    card: Path, image: Path, cache: Path, end: str, pack: object
) -> None:
    image = plain_image(image, 3 * MIB)
    with image.open("ab") as file:
        file.truncate(9 * MIB)  # most of an image is empty
    packed = image.with_name(f"a.raw.{end}")
    packed.write_bytes(pack(image.read_bytes()))  # type: ignore[operator]
    write(wish(card, packed), cache)
    assert holds(card, image)
    assert not list(cache.glob("*-raw"))


def test_a_size_that_is_no_whole_page_is_written(card: Path, tmp_path: Path, cache: Path) -> None:
    image = plain_image(tmp_path / "odd.raw", 9 * MIB + 512 * 3)
    write(wish(card, image), cache)
    assert holds(card, image)


def test_an_image_as_large_as_the_card_is_written(tmp_path: Path, cache: Path) -> None:
    image = plain_image(tmp_path / "a.raw", 9 * MIB + 512)
    card = card_file(tmp_path / "c", 9 * MIB + 512)
    write(wish(card, image), cache)
    assert holds(card, image)


@pytest.fixture
def gpt(tmp_path: Path) -> Path:
    """The layout of Talos' own images, made by sfdisk."""
    file = tmp_path / "gpt.raw"
    file.write_bytes(scene.noise(12 * MIB))
    script = "label: gpt\nfirst-lba: 2048\nstart=2048, size=8192, type=U\nstart=10240, size=8192\n"
    with file.open("r+b") as image:
        image.write(bytes(MIB))
    subprocess.run(["sfdisk", "-q", str(file)], input=script, text=True, check=True, capture_output=True)
    return file


@scene.needs_sfdisk
def test_an_image_with_a_gpt_is_written_and_still_one(card: Path, gpt: Path, cache: Path) -> None:
    write(wish(card, gpt), cache)
    assert holds(card, gpt)
    assert note(card) == Marker("pi1", 1, WRITTEN, scene.digest(gpt.read_bytes()))
    listed = subprocess.run(["sfdisk", "--dump", str(card)], capture_output=True, text=True, check=True).stdout
    assert "label: gpt" in listed
    assert listed.count("start=") == 2


@scene.needs_sfdisk
def test_an_image_with_a_gpt_that_is_cut_off_is_refused(card: Path, gpt: Path, cache: Path) -> None:
    os.truncate(gpt, 8 * MIB)
    with pytest.raises(FlashError, match=f"its partitions end at byte {9 * MIB}, and it has {8 * MIB}"):
        write(wish(card, gpt), cache)


def test_an_old_table_at_the_end_of_the_card_is_gone(card: Path, image: Path, cache: Path) -> None:
    with card.open("r+b") as file:
        file.seek(-512, os.SEEK_END)
        file.write(b"EFI PART".ljust(512, b"x"))
    write(wish(card, image), cache)
    assert card.read_bytes()[-512:] == bytes(512)
    assert card.stat().st_size == 64 * MIB


def test_the_summary_says_what_will_be_lost_also_without_udev(card: Path, image: Path, cache: Path) -> None:
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-L", "photos", str(card)], check=True, capture_output=True)
    _, said = write(wish(card, image), cache)
    assert "it holds: ext4 photos; it gets: talos" in said[0]


def test_the_same_write_is_not_done_twice(card: Path, image: Path, cache: Path) -> None:
    write(wish(card, image), cache)
    before = card.stat().st_mtime_ns
    done, said = write(wish(card, image), cache)
    assert done.adopted
    assert not said
    assert card.stat().st_mtime_ns == before


def test_another_image_waits_for_the_next_generation(card: Path, image: Path, cache: Path, tmp_path: Path) -> None:
    write(wish(card, image), cache)
    other = plain_image(tmp_path / "other.raw", seed=2)
    done, said = write(wish(card, other), cache)
    assert done.adopted
    assert "raise generation to write it again" in said[0]
    assert holds(card, image)
    done, said = write(wish(card, other, generation=2), cache)
    assert not done.adopted
    assert "it holds: pi1, generation 1, written" in said[0]
    assert holds(card, other)


def test_a_card_that_was_written_more_often_is_not_written_back(card: Path, image: Path, cache: Path) -> None:
    write(wish(card, image, generation=3), cache)
    with pytest.raises(RefusedError, match=r"was written as generation 3; to keep it, set cards\.pi1\.generation to 3"):
        write(wish(card, image, generation=2), cache)


def test_another_nodes_card_is_refused_and_given_up_as_told(card: Path, image: Path, cache: Path) -> None:
    write(wish(card, image, card="pi2"), cache)
    before = card.read_bytes()
    with pytest.raises(RefusedError, match="is already written as pi2; take the right card") as caught:
        write(wish(card, image), cache)
    assert card.read_bytes() == before
    subprocess.run(str(caught.value).split("`")[1].split(), check=True, capture_output=True)
    write(wish(card, image), cache)
    assert note(card) == Marker("pi1", 1, WRITTEN, scene.digest(image.read_bytes()))


def test_a_killed_write_is_repeated(card: Path, image: Path, cache: Path) -> None:
    put_note(card, Marker("pi1", 1, WRITING, scene.digest(image.read_bytes())))
    done, said = write(wish(card, image), cache)
    assert not done.adopted
    assert "it holds: pi1, generation 1, writing" in said[0]
    assert holds(card, image)


def test_the_summary_comes_before_the_first_byte(card: Path, image: Path, cache: Path) -> None:
    before, seen = card.read_bytes(), []

    def say(_: str) -> None:
        seen.append(card.read_bytes() == before)

    cards.write(wish(card, image), say, cache=cache, seen=())
    assert seen == [True]


# What goes wrong before a byte is written: the card stays as it was.


@pytest.fixture
def untouched(card: Path) -> object:
    before = card.read_bytes()
    yield
    assert card.read_bytes() == before


@pytest.mark.usefixtures("untouched")
class TestNothingIsWritten:
    def test_the_wrong_size(self, card: Path, image: Path, cache: Path) -> None:
        with pytest.raises(RefusedError, match=r"it has 67 MB, and the settings say 1\.0 GB to 2\.0 GB"):
            write(wish(card, image, min_bytes=10**9, max_bytes=2 * 10**9), cache)

    def test_a_card_smaller_than_the_image(self, card: Path, tmp_path: Path, cache: Path) -> None:
        image = plain_image(tmp_path / "large.raw", 65 * MIB)
        with pytest.raises(RefusedError, match="too small for the image, which has 68 MB"):
            write(wish(card, image), cache)

    def test_a_wrong_serial(self, card: Path, image: Path, cache: Path) -> None:
        with pytest.raises(RefusedError, match="its serial is unknown, and the settings say 42"):
            write(wish(card, image, serial="42"), cache)

    def test_another_sum(self, card: Path, image: Path, cache: Path) -> None:
        with pytest.raises(FlashError, match="and the settings expect 1111"):
            write(wish(card, image, sha256="1" * 64), cache)

    def test_a_packed_image_that_is_cut_off(self, card: Path, image: Path, cache: Path) -> None:
        plain_image(image, 3 * MIB)
        packed = image.with_name("a.raw.xz")
        packed.write_bytes(quick_xz(image.read_bytes())[:-1000])
        with pytest.raises(FlashError, match="is damaged"):
            write(wish(card, packed), cache)

    def test_a_plain_image_that_is_cut_off(self, card: Path, image: Path, cache: Path) -> None:
        os.truncate(image, 8 * MIB)
        with pytest.raises(FlashError, match=f"is cut off: its partitions end at byte {9 * MIB}"):
            write(wish(card, image), cache)

    @pytest.mark.parametrize("content", [bytes(2 * MIB), mbr().ljust(2 * MIB, b"\0"), b"<html>" * 999])
    def test_what_is_no_image(self, card: Path, image: Path, cache: Path, content: bytes) -> None:
        image.write_bytes(content)
        with pytest.raises(FlashError, match=r"no image of a card|too few for an image"):
            write(wish(card, image), cache)

    def test_a_card_held_by_another_program(self, card: Path, image: Path, cache: Path) -> None:
        import fcntl

        with card.open("rb") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            with pytest.raises(RefusedError, match="another program holds its lock"):
                write(wish(card, image), cache)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
    def test_a_card_that_can_only_be_read(self, card: Path, image: Path, cache: Path) -> None:
        card.chmod(0o444)
        with pytest.raises(RefusedError, match="it can only be read"):
            write(wish(card, image), cache)

    def test_a_missing_tool_is_told_before(
        self, card: Path, image: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        wished = wish(card, image, kind="raspberry-pi-os", preparation=scene.preparation())
        with pytest.raises(RefusedError, match="install the package mtools"):
            write(wished, cache)

    def test_a_card_that_became_another_one_in_between(self, card: Path, image: Path, cache: Path) -> None:
        def swapped(disk: Disk, name: str) -> Target:
            os.truncate(card, 70 * MIB)
            try:
                return Target(disk, name)
            finally:
                os.truncate(card, 64 * MIB)

        with pytest.raises(RefusedError, match="is another disk than a moment ago"):
            write(wish(card, image), cache, open_target=swapped)

    def test_a_cache_without_room(self, card: Path, image: Path, tmp_path: Path) -> None:
        (tmp_path / "blocked").write_text("")
        with pytest.raises(RefusedError, match="HOMELAB_CACHE"):
            write(wish(card, image), tmp_path / "blocked" / "cache")


# What goes wrong while a card is written: a disk that fails, over a real file.


class Failing(Target):
    """Fails from the fifth megabyte on with an error of the kernel."""

    error = errno.EIO

    def write(self, offset: int, data: memoryview) -> None:
        with self._mapped("writing", offset):
            if offset >= 5 * MIB:
                raise OSError(self.error, os.strerror(self.error))
        super().write(offset, data)


class Pulled(Failing):
    error = errno.ENODEV


class Full(Failing):
    error = errno.ENOSPC


class Forgetful(Target):
    """Gives back another byte than was written."""

    at = 7 * MIB

    def read_into(self, offset: int, chunk: memoryview) -> None:
        super().read_into(offset, chunk)
        if offset <= self.at < offset + len(chunk):
            chunk[self.at - offset] ^= 1


class ForgetfulHead(Forgetful):
    at = 450


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        (Pulled, FlashError, "the card was pulled, its reader hangs, or it is broken"),
        (Failing, FlashError, "it is written from the start"),
        (Full, RefusedError, "no space is left behind this image file"),
        (Forgetful, FlashError, "gives back other bytes than were written; the card is worn out"),
        (ForgetfulHead, FlashError, "gives back other bytes in the partition table"),
    ],
)
def test_a_fault_in_the_middle_leaves_half_a_card_that_is_known_for_it(
    card: Path, image: Path, cache: Path, kind: type[Target], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        write(wish(card, image), cache, open_target=kind)
    assert f"cards.pi1 ({card})" in str(caught.value)
    assert note(card) == Marker("pi1", 1, WRITING, scene.digest(image.read_bytes()))
    if kind not in (Forgetful, ForgetfulHead):
        assert card.read_bytes()[510:512] != b"\x55\xaa", "half a card must not boot"
    done, _ = write(wish(card, image), cache)
    assert not done.adopted
    assert holds(card, image)


def test_an_image_that_changes_while_it_is_written_is_noticed(card: Path, image: Path, cache: Path) -> None:
    def say(_: str) -> None:
        with image.open("r+b") as file:
            file.seek(8 * MIB)
            file.write(b"another")

    with pytest.raises(FlashError, match="gives back other bytes"):
        cards.write(wish(card, image), say, cache=cache, seen=())


def test_an_image_that_shrinks_while_it_is_written_is_noticed(card: Path, image: Path, cache: Path) -> None:
    with pytest.raises(FlashError, match="is shorter than when it was measured"):
        cards.write(wish(card, image), lambda _: os.truncate(image, 5 * MIB), cache=cache, seen=())


def test_a_deadline_ends_it(card: Path, image: Path, cache: Path) -> None:
    now = [0.0]

    def say(_: str) -> None:
        now[0] = 1e9

    with pytest.raises(DeadlineError, match="not written within 60 s"):
        cards.write(wish(card, image), say, cache=cache, seen=(), deadline=Deadline(60, clock=lambda: now[0]))


def test_an_image_without_room_for_a_note_is_written_without_one(card: Path, tmp_path: Path, cache: Path) -> None:
    image = plain_image(tmp_path / "a.raw")
    with image.open("r+b") as file:
        file.seek(marker.OFFSET)
        file.write(b"a boot loader")
    _, said = write(wish(card, image), cache)
    assert card.read_bytes()[: 9 * MIB] == image.read_bytes()
    assert "leaves no room for a note" in said[1]


# Real block devices.


@needs_root
def test_a_loop_device_is_written_like_a_card(card: Path, image: Path, cache: Path) -> None:
    with loop(card) as device:
        cards.write(wish(device, image), cache=cache)
        assert cards.write(wish(device, image), cache=cache).adopted
    assert holds(card, image)


@needs_root
def test_a_mounted_loop_device_is_refused_twice_over(tmp_path: Path, image: Path, cache: Path) -> None:
    """By what lsblk says; and by the kernel, when it was mounted after somebody looked."""
    card, folder = card_file(tmp_path / "c"), tmp_path / "mounted"
    folder.mkdir()
    with loop(card) as device:
        subprocess.run(["mke2fs", "-q", "-F", str(device)], check=True, capture_output=True)
        early = [disk for disk in inventory.disks() if disk.path == str(device)]
        subprocess.run(["mount", str(device), str(folder)], check=True)
        before = card.read_bytes()
        try:
            with pytest.raises(RefusedError, match=f"it is mounted; type: umount {folder}"):
                cards.write(wish(device, image), cache=cache)
            with pytest.raises(RefusedError, match="another program or mount holds it"):
                cards.write(wish(device, image), cache=cache, seen=early)
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        assert card.read_bytes()[4096:] == before[4096:]


@needs_root
def test_a_loop_device_that_can_only_be_read_is_refused(card: Path, image: Path, cache: Path) -> None:
    with loop(card, "--read-only") as device, pytest.raises(RefusedError, match="it can only be read"):
        cards.write(wish(device, image), cache=cache)


@needs_root
def test_a_loop_device_held_by_another_program_is_refused(card: Path, image: Path, cache: Path) -> None:
    with loop(card) as device:
        holder = os.open(device, os.O_RDONLY | os.O_EXCL)
        try:
            with pytest.raises(RefusedError, match="another program or mount holds it"):
                cards.write(wish(device, image), cache=cache)
        finally:
            os.close(holder)


@needs_root
def test_a_device_whose_medium_fails_in_the_middle(tmp_path: Path, image: Path, cache: Path) -> None:
    """A loop device over a file whose own disk is full: the kernel itself fails from some byte on."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        card = small / "card.img"
        card.touch()
        os.truncate(card, 64 * MIB)
        with loop(card) as device, pytest.raises(FlashError, match=r"its medium ends there|or it is broken"):
            cards.write(wish(device, image), cache=cache)
    finally:
        subprocess.run(["umount", str(small)], check=True)


@needs_root
def test_an_image_file_on_a_full_disk(tmp_path: Path, image: Path, cache: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], check=True)
    try:
        card = small / "card.img"
        card.touch()
        os.truncate(card, 64 * MIB)
        with pytest.raises(RefusedError, match="no space is left behind this image file"):
            cards.write(wish(card, image), cache=cache)
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_the_tools_are_named_with_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        RefusedError, match="mcopy, mdir, mformat: not found on this machine; install the package mtools"
    ):
        fat.require_tools()
