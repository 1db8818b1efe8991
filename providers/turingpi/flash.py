"""Writing an image to a module's disk through its board's BMC, and surviving what BMCs do meanwhile (4a).

The order: wait until the board's one transfer slot is free; have the first bytes ready; claim the slot; see our own
transfer in it; send; see it through its read-back; give all four slots their wished power; see the module boot.
Whatever goes wrong, the board is tidied up and the power given back; what may be a passing fault is tried once more.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain

from providers.deadline import Deadline
from providers.errors import (
    AuthError,
    DeadlineError,
    FlashError,
    HomelabError,
    ProtocolError,
    RefusedError,
    UnreachableError,
    UserError,
)
from providers.turingpi.answers import SLOTS, State, Status
from providers.turingpi.boot import Console
from providers.turingpi.busy import wait_until_free
from providers.turingpi.client import Bmc
from providers.turingpi.image import Image
from providers.turingpi.pace import Flashed, Pace
from providers.turingpi.progress import Meter, Phase, Progress, Watch, ignore
from providers.turingpi.wire import CertificateError, Stall

__all__ = ["Booted", "Flashed", "Pace", "flash"]

ATTEMPTS = 2
FILE = "homelab.raw"
Booted = Callable[[Deadline], str | None]

_HINTS = (
    ("interface not found", "is a module seated in this slot, and of the kind that the settings say?"),
    ("module not supported", "is a module seated in this slot, and of the kind that the settings say?"),
    ("send timeout", "the board gave up waiting; an empty slot looks like this too"),
    ("sha256 checksum", "bytes were damaged on their way; look at the cable and the switch"),
    ("crc", "the disk gives back other bytes than were written; it may be worn out"),
)


class _FailedError(FlashError):
    """An attempt that failed; `crashed` when the BMC did."""

    def __init__(self, message: str, *, crashed: bool = False) -> None:
        super().__init__(message)
        self.crashed = crashed


def flash(
    bmc: Bmc,
    slot: int,
    image: Image,
    wished_power: Callable[[], dict[int, bool]],
    deadline: Deadline,
    progress: Watch = ignore,
    pace: Pace | None = None,
    booted: Booted | None = None,
) -> Flashed:
    """Write `image` to the disk of the module in `slot`, and see it boot.

    The caller sees to it that nobody else flashes on this board: a second request cancels the first (4a.1).

    Args:
        bmc: the board.
        slot: 1 to 4.
        image: from `providers.turingpi.image.fetch`.
        wished_power: the power that the four slots should have; asked when it is restored, after success and failure.
            A slot that it leaves out is not touched.
        deadline: for everything but the tidying up.
        progress: told about once a second.
        pace: how long to wait for what.
        booted: gives the sign of the boot, or None when there was none within its deadline; by default the kernel's
            first words on the module's console.

    Raises:
        FlashError: it could not be written, or what was written does not boot.
        AuthError: the credentials are refused.
        RefusedError: the board shows another certificate than the pinned one.
        DeadlineError: the deadline passed; the board was tidied up.
        UserError: no such slot.
    """
    began = time.monotonic()
    job = _Job(bmc, slot, image, wished_power, deadline, progress, pace or Pace(), booted)
    first: HomelabError | None = None
    for attempt in range(1, ATTEMPTS + 1):
        try:
            seen = job.attempt()
            return Flashed(image.raw_sha256, image.raw_bytes, time.monotonic() - began, seen, attempt)
        except HomelabError as error:
            told = job.tidied(error)
            if attempt == ATTEMPTS or not _passing(told) or deadline.expired:
                raise _final(job, told, first) from error
            first = told
            job.refresh(error)
        except BaseException:
            job.tidy()
            raise
    raise FlashError(f"{job.where}: no attempt was made")  # unreachable: ATTEMPTS is above zero


def _passing(error: HomelabError) -> bool:
    """Whether a second try may go better."""
    if isinstance(error, (AuthError, CertificateError, DeadlineError, UserError)):
        return False
    return isinstance(error, (_FailedError, UnreachableError, RefusedError, ProtocolError))


def _crashed(error: HomelabError) -> bool:
    return isinstance(error, UnreachableError) or (isinstance(error, _FailedError) and error.crashed)


def _final(job: _Job, error: HomelabError, first: HomelabError | None) -> HomelabError:
    if isinstance(error, (AuthError, CertificateError, DeadlineError, UserError)):
        return error
    text = str(error)
    hint = next((f"; {hint}" for sign, hint in _HINTS if sign in text.lower()), "")
    before = f"; the try before: {first}" if first is not None and str(first) != text else ""
    twice = "; tried twice" if first is not None and not before else ""
    return FlashError(f"{job.where}: not flashed: {text}{hint}{twice}{before}")


@dataclass
class _Job:
    """One module's flash, over its attempts."""

    bmc: Bmc
    slot: int
    image: Image
    wished_power: Callable[[], dict[int, bool]]
    deadline: Deadline
    progress: Watch
    pace: Pace
    booted: Booted | None
    _claimed: bool = field(default=False, init=False)
    _handle: int | None = field(default=None, init=False)
    _own_seen: bool = field(default=False, init=False)

    @property
    def where(self) -> str:
        """The subject of messages."""
        return f"{self.bmc.name} slot {self.slot}"

    def attempt(self) -> str:
        """Write once; gives the sign of the boot."""
        self._claimed, self._handle, self._own_seen = False, None, False
        self.progress(Progress(Phase.PREPARING))
        can = self.bmc.abilities()
        self._await_free()
        chunks = self.image.chunks()
        with closing(chunks):  # type: ignore[type-var]  # it is a generator
            ready = chain([next(chunks)], chunks)
            if can.handles:
                self._send(self._watched(ready), self.image.raw_sha256 if can.sha256 else None)
                self._see_through()
            else:
                self._send_at_once(self._watched(ready))
        return self._boot()

    def tidied(self, error: HomelabError) -> HomelabError:
        """Tidy up after `error`, waiting for a crashed BMC first; gives `error`, with what could not be tidied up."""
        if not self._claimed:
            return error
        if _crashed(error) and not self._returned():
            return FlashError(
                f"{error}; the BMC did not come back within {self.pace.return_s:.0f} s, so its slots' power is as "
                f"it left it: run `/etc/init.d/S94bmcd restart` on the BMC or power-cycle the board, then try again"
            )
        left = self.tidy()
        return _FailedError(f"{error} ({left})") if left and _passing(error) else error

    def tidy(self) -> str:
        """Cancel our transfer, lower the boot pins, power-cycle the module, restore all slots (4a.4).

        Never fails; gives what is still wrong. Does nothing when no flash was begun.
        """
        if not self._claimed:
            return ""
        wrong = [self._tried(step) for step in (self._cancel_own, self.bmc.clear_usb_boot, self._cut, self.restore)]
        return "; ".join(text for text in wrong if text)

    def restore(self) -> None:
        """Give every slot its wished power; a slot without a wish stays as it is."""
        wished = self.wished_power()
        self.bmc.set_power(wished)
        stored = self.bmc.power()
        wrong = [slot for slot, on in wished.items() if stored.get(slot, on) != on]
        if wrong:
            raise RefusedError(f"slots {wrong} do not have their wished power")

    def refresh(self, error: HomelabError) -> None:
        """Give a BMC that ran out of memory a fresh start, if that cuts nobody's power (4a.5)."""
        if not _crashed(error):
            return
        stored, wished = self.bmc.power(), self.wished_power()
        if any(stored.get(slot, True) or wished.get(slot, False) for slot in SLOTS if slot != self.slot):
            return
        with suppress(UnreachableError):  # it may be gone before it answers
            self.bmc.reboot()
        if not self._returned():
            raise FlashError(f"{self.where}: the BMC was rebooted after a crash ({error}) and did not come back")

    def _await_free(self) -> None:
        """Wait for somebody else's transfer to end; one that stands still is cancelled."""
        words = Progress(Phase.PREPARING, note="the board is busy with another transfer")
        pace, told = self.pace, self.progress
        if not wait_until_free(self.bmc, self.deadline, pace.stall_s, pace.poll_s, lambda: told(words)):
            self.bmc.flash_cancel()

    def _send(self, chunks: Iterator[bytes], sha256: str | None) -> None:
        size = self.image.raw_bytes
        self._claimed = True
        self._handle = self.bmc.flash_start(self.slot, FILE, size, sha256)
        self._await_own()
        try:
            self.bmc.upload(self._handle, size, chunks, self.deadline, self._stall)
        except (UnreachableError, RefusedError, ProtocolError) as error:
            raise self._blamed(error) from error

    def _send_at_once(self, chunks: Iterator[bytes]) -> None:
        self._claimed = True
        try:
            self.bmc.upload_at_once(self.slot, FILE, self.image.raw_bytes, chunks, self.deadline, self._stall)
        except (UnreachableError, ProtocolError) as error:
            raise _FailedError(f"{error}; firmware 1.x breaks off big images: install firmware 2.1 or later") from error
        self._own_seen = True
        with suppress(ProtocolError, RefusedError):  # firmware that does not know the question has written all by now
            self.bmc.flash_status()
            self._see_through()

    @property
    def _stall(self) -> Stall:
        return Stall(self.pace.stall_s, self.pace.answer_s)

    def _await_own(self) -> None:
        """See our transfer before sending, so that an old Done or Error is never taken for ours (4a.1)."""
        deadline = self.deadline.within(self.pace.own_s)
        while not self._own_seen and not deadline.expired:
            status = self.bmc.flash_status()
            self._own_seen = status.state is State.TRANSFERRING and status.id == self._handle
            if not self._own_seen:
                deadline.sleep(self.pace.poll_s)

    def _watched(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The bytes on their way out, measured and summed: the last one leaves only if they are what was promised."""
        size, digest, done = self.image.raw_bytes, hashlib.sha256(), 0
        meter = Meter(self.progress, Phase.WRITING, size, time.monotonic)
        for chunk in chunks:
            digest.update(chunk)
            done += len(chunk)
            if done > size or (done == size and digest.hexdigest() != self.image.raw_sha256):
                raise FlashError(f"{self.image.path}: has changed since it was measured; remove it and run this again")
            yield chunk
            meter.at(done)
        if done != size:
            raise FlashError(f"{self.image.path}: is shorter than when it was measured; remove it and run this again")

    def _see_through(self) -> None:
        """Watch the rest of the writing and the read-back until our own transfer is done."""
        meter = Meter(self.progress, Phase.VERIFYING, self.image.raw_bytes, time.monotonic)
        written, since = -1, time.monotonic()
        while not self._is_done(status := self._status()):
            if status.state is State.TRANSFERRING and status.written != written:
                written, since = status.written, time.monotonic()
                meter.at(written)
            if time.monotonic() - since > self.pace.stall_s:
                raise _FailedError(f"no byte was written for {self.pace.stall_s:.0f} s, status {status.state.value}")
            self._pause("not written and read back")

    def _is_done(self, status: Status) -> bool:
        """Whether our transfer has ended well; an end that may be another's is no end (4a.1)."""
        if status.state is State.TRANSFERRING:
            if self._is_another(status):
                raise _FailedError("another flash was begun on this board and cancelled this one")
            self._own_seen = True
        if status.state is State.READY:
            if self._handle is None:
                return True  # firmware 1.x forgets at once
            raise _FailedError("the BMC's daemon crashed in the middle of it (it may be out of memory)", crashed=True)
        if status.state is State.ERROR and self._own_seen:
            raise _FailedError(status.text)
        return status.state is State.DONE and self._own_seen

    def _status(self) -> Status:
        """The status, over a few unanswered or garbled questions."""
        deadline = self.deadline.within(self.pace.silent_s)
        while True:
            try:
                return self.bmc.flash_status()
            except (UnreachableError, ProtocolError, RefusedError) as error:
                if deadline.expired or isinstance(error, CertificateError):
                    raise
                deadline.sleep(self.pace.poll_s)

    def _blamed(self, error: HomelabError) -> HomelabError:
        """Why an upload broke off: the BMC often answers before it has read everything, or not at all (facts A6)."""
        if isinstance(error, CertificateError):
            return error
        if self.deadline.expired:
            return DeadlineError(f"{self.where}: not sent within {self.deadline.seconds:.0f} s ({error})")
        try:
            status = self._status()
        except HomelabError as silence:
            return silence if isinstance(silence, AuthError) else _FailedError(str(error), crashed=True)
        if status.state is State.READY:
            return _FailedError(f"the BMC's daemon crashed ({error})", crashed=True)
        if self._is_another(status):
            return _FailedError("another flash was begun on this board and cancelled this one")
        if status.state is State.ERROR:
            return _FailedError(f"{status.text} ({error})")
        return _FailedError(str(error))

    def _boot(self) -> str:
        """Restore the power, with the module on, and wait for the sign of its boot (4a.3, 4a.10)."""
        self.progress(Progress(Phase.BOOTING))
        console = Console(self.bmc, self.slot, self.pace.poll_s)
        self.bmc.set_power({**self.wished_power(), self.slot: True})
        seen = (self.booted or console.booted)(self.deadline.within(self.pace.boot_s))
        if seen is None:
            raise _FailedError(f"written and read back, and it does not boot (console: {console.last_line!r})")
        if not self.wished_power().get(self.slot, True):
            self.bmc.set_power({self.slot: False})
        return seen

    def _cancel_own(self) -> None:
        status = self.bmc.flash_status()
        if status.state is State.TRANSFERRING and not self._is_another(status):
            self.bmc.flash_cancel()

    def _is_another(self, status: Status) -> bool:
        """Whether somebody else's transfer runs; an id that one of both lacks tells nothing."""
        return (
            status.state is State.TRANSFERRING and None not in (status.id, self._handle) and status.id != self._handle
        )

    def _cut(self) -> None:
        self.bmc.set_power({self.slot: False})

    def _tried(self, step: Callable[[], None]) -> str:
        try:
            step()
        except HomelabError as error:
            return str(error)
        return ""

    def _returned(self) -> bool:
        """Leave a crashed BMC alone for a while, then wait until it answers."""
        waiting = Deadline(self.pace.return_s)
        waiting.sleep(self.pace.cool_down_s)
        while not waiting.expired:
            try:
                self.bmc.power()
                return True
            except (UnreachableError, ProtocolError, RefusedError):
                waiting.sleep(max(self.pace.poll_s, 0.2))
        return False

    def _pause(self, what: str) -> None:
        if self.deadline.expired:
            raise DeadlineError(f"{self.where}: {what} within {self.deadline.seconds:.0f} s")
        self.deadline.sleep(self.pace.poll_s)
