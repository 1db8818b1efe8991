"""The order of a roll-out, and that it stops: nodes are threads that note what they do."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from providers.errors import RefusedError, UpgradeError
from providers.talos import rollout
from providers.talos.rollout import Rollout, Step

PLANES, WORKERS = ("cp1", "cp2", "cp3"), ("w1", "w2", "w3", "w4")
RANKS = {name: rank for rank, name in enumerate((*PLANES, *WORKERS), 1)}


class Run:
    """Nodes that join at once, in any order, and do their steps; who was active together is kept."""

    def __init__(self, width: int = 1, gather_s: float = 0.1) -> None:
        self.rollout = Rollout(gather_s)
        self.width = width
        self.done: list[Step] = []
        self.together: list[set[str]] = []
        self.fails: dict[str, Exception] = {}
        self._active: set[str] = set()
        self._lock = threading.Lock()

    def steps(self, node: str) -> list[Step]:
        rank, leads = RANKS[node], node in PLANES
        pods = [rollout.control_plane(part, rank, node) for part in range(3)] if leads else []
        kept = [rollout.manifests(rank, node)] if leads else []
        return [rollout.talos(rank, node, leads=leads), *pods, rollout.kubelet(rank, node, leads=leads), *kept]

    def node(self, name: str) -> None:
        with self.rollout.joined(name) as place:
            steps = self.steps(name)
            place.needs(steps)
            for step in steps:
                workers_talos = step.kind == (0, 1)
                with place.turn(step, self.width if workers_talos else 1):
                    self._do(name, step)

    def _do(self, name: str, step: Step) -> None:
        with self._lock:
            self._active.add(name)
            self.together.append(set(self._active))
            self.done.append(step)
        time.sleep(0.01)
        with self._lock:
            self._active.remove(name)
        if name in self.fails:
            raise self.fails[name]

    def start(self, *names: str) -> dict[str, Future[None]]:
        with ThreadPoolExecutor(len(names)) as pool:
            return {name: pool.submit(self.node, name) for name in names}


def test_talos_goes_first_then_the_pods_then_the_kubelets() -> None:
    run = Run()
    futures = run.start(*reversed((*PLANES, *WORKERS)))
    assert [future.exception() for future in futures.values()] == [None] * 7
    assert run.done == sorted(run.done)
    assert [step.node for step in run.done[:7]] == [*PLANES, *WORKERS]
    # The API servers of all control planes before the first controller manager.
    assert [step.part for step in run.done if step.phase == 1] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert max(map(len, run.together)) == 1


def test_workers_go_as_many_at_once_as_the_settings_say_and_control_planes_never() -> None:
    run = Run(width=2)
    run.start(*PLANES, *WORKERS)
    sizes = {frozenset(group) for group in run.together if len(group) > 1}
    assert sizes
    assert all(len(group) == 2 and group <= set(WORKERS) for group in sizes)


def test_after_one_failure_nobody_else_begins_and_each_says_whose() -> None:
    run = Run()
    run.fails["cp2"] = UpgradeError("cp2: rolled back")
    futures = run.start(*PLANES, *WORKERS)
    assert [step.node for step in run.done] == ["cp1", "cp2"]
    assert isinstance(futures["cp2"].exception(), UpgradeError)
    for name in (*PLANES[2:], *WORKERS):
        error = futures[name].exception()
        assert isinstance(error, RefusedError)
        assert str(error).startswith(f"{name}: not begun: cp2's upgrade failed")
    assert str(futures["cp1"].exception()).startswith("cp1: not finished: cp2's upgrade failed")


def test_two_workers_at_once_and_one_fails_the_other_ends_what_it_does() -> None:
    run = Run(width=2)
    run.fails["w1"] = UpgradeError("w1: rolled back")
    futures = run.start(*WORKERS)
    assert {step.node for step in run.done} <= {"w1", "w2", "w3"}
    assert str(futures["w4"].exception()).startswith("w4: not begun: w1's upgrade failed")


def test_nobody_begins_while_another_is_looked_at() -> None:
    run = Run()
    with run.rollout.joined("cp3") as slow, ThreadPoolExecutor(1) as pool:
        future = pool.submit(run.node, "cp1")
        time.sleep(0.3)
        assert run.done == []
        slow.needs([])
        assert future.exception(5) is None


def test_a_node_that_can_not_be_looked_at_stops_everybody() -> None:
    run = Run()

    def silent() -> None:
        with run.rollout.joined("cp3"):
            time.sleep(0.3)
            raise UpgradeError("cp3: does not answer")

    with ThreadPoolExecutor(2) as pool:
        broken, future = pool.submit(silent), pool.submit(run.node, "cp1")
        assert isinstance(broken.exception(5), UpgradeError)
        assert str(future.exception(5)).startswith("cp1: not begun: cp3's upgrade failed")
    assert run.done == []


def test_a_late_one_goes_before_those_that_still_wait() -> None:
    run = Run()
    order: list[str] = []
    first, late, last = (rollout.talos(RANKS[n], n, leads=True) for n in PLANES)

    def work(step: Step, begun: threading.Event, hold: threading.Event) -> None:
        with run.rollout.joined(step.node) as place:
            place.needs([step])
            with place.turn(step):
                order.append(step.node)
                begun.set()
                hold.wait(5)

    holds = [threading.Event() for _ in range(3)]
    begun = [threading.Event() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        pool.submit(work, first, begun[0], holds[0])
        pool.submit(work, last, begun[2], holds[2])
        assert begun[0].wait(5)
        pool.submit(work, late, begun[1], holds[1])
        time.sleep(0.1)
        for hold in holds:
            hold.set()
    assert order == ["cp1", "cp2", "cp3"]


def test_a_single_target_waits_for_nobody() -> None:
    run = Run()
    assert run.start("w2")["w2"].exception() is None
    assert {step.node for step in run.done} == {"w2"}


def test_who_is_at_work_is_known() -> None:
    run = Run()
    step = rollout.talos(1, "w1", leads=False)
    with run.rollout.joined("w1") as place:
        place.needs([step])
        with place.turn(step):
            assert run.rollout.busy(step) == ("w1",)
        assert run.rollout.busy(step) == ()


def test_one_cluster_has_one_roll_out_in_a_run() -> None:
    assert rollout.of("a-cluster") is rollout.of("a-cluster")
    assert rollout.of("a-cluster") is not rollout.of("another")
