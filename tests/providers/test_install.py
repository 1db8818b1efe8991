"""Fear number one: a wiped disk. What is seen decides, and only the settings allow writing."""

import pytest

from providers.errors import ForeignNodeError, RefusedError
from providers.turingpi.install import Decision, Evidence, Module, decide

MODULE = Module("node3", "10.0.0.13", 3, "v1.13.9", "abc")


def word(evidence: Evidence, generation: int, *, interrupted: bool = False) -> Decision:
    return decide(MODULE, evidence, generation=generation, interrupted=interrupted)


@pytest.mark.parametrize("generation", [0, 1, 7])
@pytest.mark.parametrize("evidence", [Evidence.OURS, Evidence.SAME_IMAGE])
def test_what_already_fits_is_adopted_never_written(evidence: Evidence, generation: int) -> None:
    assert word(evidence, generation) is Decision.ADOPT


@pytest.mark.parametrize("generation", [0, 1, 7])
def test_another_clusters_node_is_never_written(generation: int) -> None:
    with pytest.raises(ForeignNodeError, match=r"node3 .10.0.0.13.: belongs to another cluster and was not touched"):
        word(Evidence.FOREIGN, generation)


@pytest.mark.parametrize("evidence", [Evidence.OTHER_IMAGE, Evidence.BOOTS, Evidence.BLANK])
def test_generation_0_never_writes(evidence: Evidence) -> None:
    with pytest.raises(RefusedError, match=r"set nodes.node3.generation to [12]"):
        word(evidence, 0, interrupted=True)


@pytest.mark.parametrize("evidence", [Evidence.OTHER_IMAGE, Evidence.BLANK])
def test_generation_1_writes_what_holds_nothing(evidence: Evidence) -> None:
    assert word(evidence, 1) is Decision.WRITE


def test_somebodys_own_system_needs_more_than_the_first_word() -> None:
    with pytest.raises(RefusedError, match="generation to 2"):
        word(Evidence.BOOTS, 1)
    assert word(Evidence.BOOTS, 2) is Decision.WRITE


def test_a_flash_of_ours_that_was_killed_is_written_again() -> None:
    assert word(Evidence.BOOTS, 1, interrupted=True) is Decision.WRITE
