"""Waiting for a board's running transfer."""

from collections.abc import Iterable
from typing import Any, cast

import pytest

from providers.deadline import Deadline
from providers.errors import DeadlineError, HomelabError, ProtocolError, RefusedError
from providers.turingpi.answers import State, Status
from providers.turingpi.busy import wait_until_free
from providers.turingpi.client import Bmc


class Board:
    """A board that gives one answer after the other, the last one again and again."""

    name = "https://board"

    def __init__(self, answers: Iterable[Status | HomelabError]) -> None:
        self._answers = list(answers)

    def flash_status(self) -> Status:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, HomelabError):
            raise answer
        return answer


def wait(*answers: Status | HomelabError, limit_s: float = 5, stall_s: float = 0.05) -> tuple[bool, int]:
    told: list[None] = []
    board = cast(Any, Board(answers))
    free = wait_until_free(cast(Bmc, board), Deadline(limit_s), stall_s, 0.002, lambda: told.append(None))
    return free, len(told)


def writing(written: int, number: int = 1) -> Status:
    return Status(State.TRANSFERRING, number, written, 1000)


@pytest.mark.parametrize("state", [State.READY, State.DONE, State.ERROR])
def test_a_board_at_rest_is_free_at_once(state: State) -> None:
    assert wait(Status(state)) == (True, 0)


@pytest.mark.parametrize("error", [ProtocolError("what?"), RefusedError("no such question")])
def test_firmware_that_does_not_know_the_question_is_free(error: HomelabError) -> None:
    assert wait(error) == (True, 0)


def test_a_transfer_that_goes_on_is_waited_for() -> None:
    assert wait(*(writing(n) for n in range(60)), Status(State.DONE)) == (True, 60)


def test_the_next_transfer_is_not_taken_for_one_that_stands_still() -> None:
    answers = [writing(0, number) for number in range(60)]
    assert wait(*answers, Status(State.DONE)) == (True, 60)


def test_one_that_stands_still_has_ended_and_the_board_is_not_free() -> None:
    free, told = wait(writing(7))
    assert not free
    assert told > 1


def test_the_deadline_ends_the_waiting() -> None:
    with pytest.raises(DeadlineError, match="https://board: still busy with another transfer after 0 s"):
        wait(writing(7), limit_s=0.02, stall_s=10)
