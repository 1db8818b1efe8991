"""Which way leads from one version to another: what is refused at preview, and in which words."""

import pytest

from providers.talos.skew import kubernetes_step, step, talos_step


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("v1.12.11", "v1.13.9"),
        ("v1.13.8", "v1.13.9"),
        ("v1.13.9", "v1.13.8"),
        ("v1.13.9", "v1.12.11"),  # etcd's data is the same
    ],
)
def test_talos_steps_that_are_taken(old: str, new: str) -> None:
    assert talos_step(old, new) is None


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("v1.11.6", "v1.13.9", "Talos goes minor by minor: from v1.11.6 to the last v1.12 first, and from there to"),
        ("v1.13.9", "v2.0.0", "minor by minor"),
        ("v1.11.6", "v1.10.9", "Talos does not go back from v1.11.6 to v1.10.9"),
        ("v1.13.9", "v1.11.6", "does not go back"),
    ],
)
def test_talos_steps_that_are_refused(old: str, new: str, words: str) -> None:
    assert words in (talos_step(old, new) or "")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("v1.35.4", "v1.36.1", ""),
        ("v1.36.0", "v1.36.1", ""),
        ("v1.34.1", "v1.36.1", "Kubernetes goes minor by minor: from v1.34.1 to the last v1.35 first"),
        ("v1.36.1", "v1.35.4", "Kubernetes does not go back"),
    ],
)
def test_kubernetes_steps(old: str, new: str, words: str) -> None:
    found = kubernetes_step(old, new) or ""
    assert words in found
    assert bool(words) == bool(found)


def test_both_at_once_when_the_present_kubernetes_goes_with_the_new_talos() -> None:
    assert step(("v1.12.11", "v1.35.4"), ("v1.13.9", "v1.36.1")) == []


def test_kubernetes_goes_first_when_the_new_talos_does_not_take_the_present_one() -> None:
    ((where, reason),) = step(("v1.12.11", "v1.30.9"), ("v1.13.9", "v1.31.4"))
    assert where == "cluster.talos.version"
    assert reason.startswith("Kubernetes v1.30.9 is too old for Talos v1.13.9; take Kubernetes to a version that both")


def test_every_reason_is_told_at_once() -> None:
    found = step(("v1.11.6", "v1.33.1"), ("v1.13.9", "v1.36.1"))
    assert [where for where, _ in found] == ["cluster.talos.version", "cluster.kubernetes.version"]
