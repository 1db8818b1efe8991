"""The quorum rule, against etcd's own arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.talos.quorum import verdict

NAMES = ("n1", "n2", "n3", "n4", "n5", "n6", "n7")
members = st.sets(st.sampled_from(NAMES), min_size=1)
clusters = members.flatmap(lambda m: st.tuples(st.just(m), st.sets(st.sampled_from(sorted(m))), st.sampled_from(NAMES)))


def has_quorum(voters: set[str], alive: set[str]) -> bool:
    """etcd's: more than half of the voters."""
    return 2 * len(voters & alive) > len(voters)


@given(clusters)
def test_what_may_leave_leaves_a_cluster_that_can_write(cluster: tuple[set[str], set[str], str]) -> None:
    """4c.19"""
    voters, alive, leaving = cluster
    if leaving in voters and verdict(voters, alive, leaving) is None:
        assert has_quorum(voters, alive)
        assert has_quorum(voters - {leaving}, alive)


@given(clusters)
def test_what_is_refused_would_have_done_harm(cluster: tuple[set[str], set[str], str]) -> None:
    voters, alive, leaving = cluster
    if verdict(voters, alive, leaving) is not None:
        rest = voters - {leaving}
        assert not rest or not has_quorum(rest, alive) or not has_quorum(voters, alive)


@given(clusters)
def test_a_dead_member_is_never_held_back_by_its_own_death(cluster: tuple[set[str], set[str], str]) -> None:
    """4c.21"""
    voters, alive, leaving = cluster
    if leaving in voters and leaving not in alive and has_quorum(voters, alive):
        assert verdict(voters, alive, leaving) is None


@given(clusters)
def test_strangers_neither_count_nor_are_held_back(cluster: tuple[set[str], set[str], str]) -> None:
    voters, alive, leaving = cluster
    assert verdict(voters, alive | {"x", "y", "z"}, leaving) == verdict(voters, alive, leaving)
    assert verdict(voters, alive, "stranger") is None


@pytest.mark.parametrize(
    ("voters", "alive", "leaving", "word"),
    [
        ("a", "a", "a", "last control plane"),
        (
            "abc",
            "ab",
            "a",
            "without a, 1 of 2 etcd members would be healthy and 2 are needed; bring back or take out c",
        ),
        ("abc", "a", "b", "no quorum: 1 of 3"),
        ("ab", "a", "b", "no quorum"),
    ],
)
def test_the_reasons(voters: str, alive: str, leaving: str, word: str) -> None:
    assert word in str(verdict(set(voters), set(alive), leaving))


@pytest.mark.parametrize(
    ("voters", "alive", "leaving"), [("abc", "abc", "a"), ("abc", "ab", "c"), ("ab", "ab", "a"), ("abcde", "abc", "e")]
)
def test_what_may_leave(voters: str, alive: str, leaving: str) -> None:
    assert verdict(set(voters), set(alive), leaving) is None
