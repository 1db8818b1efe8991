"""4a.1: a board flashes one module at a time; a second request would cancel the first."""

import threading
import time
from collections.abc import Sequence

from providers.turingpi import turns

Rank = tuple[int, ...]


def run(board: str, ranks: Sequence[Rank], look_s: dict[Rank, float]) -> list[tuple[str, Rank]]:
    """Let one thread a rank queue up, look and flash; gives who began and ended in which order."""
    said: list[tuple[str, Rank]] = []
    drawn = threading.Barrier(len(ranks))

    def node(rank: Rank) -> None:
        with turns.ticket(board, rank) as ticket:
            drawn.wait()
            time.sleep(look_s.get(rank, 0))
            said.append(("looked", rank))
            with ticket.turn():
                said.append(("begin", rank))
                time.sleep(0.01)
                said.append(("end", rank))

    threads = [threading.Thread(target=node, args=(rank,)) for rank in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    return said


def test_4a_1_one_at_a_time_in_order_of_rank() -> None:
    ranks = [(1, 1), (0, 4), (1, 3), (0, 2)]
    flashed = [step for step in run("a", ranks, {}) if step[0] != "looked"]
    assert flashed == [(word, rank) for rank in sorted(ranks) for word in ("begin", "end")]


def test_nobody_flashes_while_another_is_still_looked_at() -> None:
    said = run("b", [(0, 1), (1, 2)], {(1, 2): 0.05})
    assert said.index(("looked", (1, 2))) < said.index(("begin", (0, 1)))


def test_an_adopted_node_gives_its_ticket_back() -> None:
    with turns.ticket("c", (0, 1)):
        pass
    with turns.ticket("c", (1, 2)) as other, other.turn():
        assert True


def test_boards_run_side_by_side() -> None:
    with turns.ticket("d", (0, 1)) as first, first.turn(), turns.ticket("e", (0, 1)) as second, second.turn():
        assert first.active
        assert second.active
