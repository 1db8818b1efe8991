"""Fear number one: a wiped disk. What is seen decides, and only the settings allow writing."""

import pytest

from providers.errors import ForeignNodeError, RefusedError
from providers.turingpi.install import Decision, Evidence, Module, decide

MODULE = Module("node3", "10.0.0.13", 3, "v1.13.9", "abc")


@pytest.mark.parametrize("may_write", [True, False])
@pytest.mark.parametrize("evidence", [Evidence.OURS, Evidence.SAME_IMAGE])
def test_what_already_fits_is_adopted_never_written(evidence: Evidence, may_write: bool) -> None:
    assert decide(MODULE, evidence, may_write=may_write) is Decision.ADOPT


@pytest.mark.parametrize("may_write", [True, False])
def test_another_clusters_node_is_never_written(may_write: bool) -> None:
    with pytest.raises(ForeignNodeError, match="node3 .10.0.0.13.: belongs to another cluster and was not touched"):
        decide(MODULE, Evidence.FOREIGN, may_write=may_write)


@pytest.mark.parametrize("evidence", [Evidence.OTHER_IMAGE, Evidence.BOOTS, Evidence.BLANK])
def test_the_rest_is_written_only_with_the_owners_word(evidence: Evidence) -> None:
    assert decide(MODULE, evidence, may_write=True) is Decision.WRITE
    with pytest.raises(RefusedError, match="set nodes.node3.generation to 1"):
        decide(MODULE, evidence, may_write=False)
