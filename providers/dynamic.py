"""The edge between the engine's property bags and our typed code: one base class for all dynamic providers.

Module path and class name of every provider are part of the state's format: state holds a reference to them, no code.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)
from pulumi.output import Unknown
from pulumi.runtime.rpc import deserialize_properties

from providers import engine

engine.adapt_process()
engine.forget_stack_traces()

Props = dict[str, Any]  # a property bag as it comes from the wire
PACKED = "settings"  # the one property that holds a resource's inputs; part of the state's format


class _Lazy:
    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


def lazily(name: str) -> Any:
    """A module that is imported when something of it is first used.

    The program only declares its resources, and a preview without changes only compares: neither needs the clients
    of boards and nodes, which take as long to import as the SDK.
    """
    return _Lazy(name)


def is_known(value: object) -> bool:
    """Whether a property has its final value; in a preview it may not, on any level."""
    if isinstance(value, Unknown):
        return False
    if isinstance(value, Mapping):
        return all(is_known(item) for item in value.values())
    if isinstance(value, list):
        return all(is_known(item) for item in value)
    return True


def changed_keys(olds: Mapping[str, Any], news: Mapping[str, Any], keys: tuple[str, ...]) -> list[str]:
    """The keys whose values differ; an unknown value counts as different, a missing one equals None."""
    return [key for key in keys if not is_known(news.get(key)) or olds.get(key) != news.get(key)]


def packed(props: Mapping[str, Any]) -> Props:
    """A resource's inputs as one property, as its provider's `at_the_edge` unpacks them.

    The SDK spends time on each property of a resource (and on all others' whenever one is known), and the engine notes
    dependencies for each: with twenty properties a node's preview costs twice of what it costs with one.
    """
    return {PACKED: dict(props)}


def unpacked(bag: Mapping[str, Any]) -> Props:
    """A bag from the wire, or from state, with what was packed in its place; what stands beside it wins."""
    inner = bag.get(PACKED)
    if not isinstance(inner, Mapping):
        return dict(bag)
    return {**inner, **{key: value for key, value in bag.items() if key != PACKED}}


def _inputs(request: Any) -> Props:
    """What the engine holds as the inputs of the resource that a request is about."""
    if request is None:
        return {}
    kept = request.old_inputs if hasattr(request, "old_inputs") else getattr(request, "inputs", None)
    return unpacked(deserialize_properties(kept)) if kept else {}


def at_the_edge(method: Callable[..., Any]) -> Callable[..., Any]:
    """Hand a resource's inputs and outputs as one to `method`, and keep out of its outputs what its inputs say already.

    State holds a resource's inputs and its outputs, and the engine writes all of it anew at every step. Only what was
    observed differs, so only that is an output. Outside a call of the engine nothing is taken away.
    """

    @functools.wraps(method)
    def call(self: Provider, *args: Any) -> Any:
        request = engine.current_request()
        held = _inputs(request)
        bags = [unpacked(arg) if isinstance(arg, Mapping) else arg for arg in args]
        if len(bags) > 1:  # everything but `create` begins with an id and what state holds
            bags[1] = {**held, **bags[1]}
        result = method(self, *bags)
        if request is not None and isinstance(result, (CreateResult, UpdateResult, ReadResult)) and result.outs:
            declared = held if isinstance(result, ReadResult) else bags[-1]
            result.outs = {k: v for k, v in result.outs.items() if k not in declared or declared[k] != v}
        return result

    return call


class Provider(ResourceProvider):
    """A dynamic provider over declared inputs.

    `inputs` are the keys that a change of which updates the resource; `memos` are stored with it but never cause
    an update on their own. Nothing is ever replaced: what is physical is changed in place or refused.
    """

    serialize_as_secret_always = False  # the reference to a class is no secret
    inputs: ClassVar[tuple[str, ...]] = ()
    memos: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Have every call of the engine go through `at_the_edge`."""
        for name in ("create", "diff", "update", "read", "delete"):
            if name in cls.__dict__:
                setattr(cls, name, at_the_edge(cls.__dict__[name]))

    def check(self, olds: Props, news: Props) -> CheckResult:
        """Refuse, before anything is touched, what `problems` finds."""
        found = self.problems(unpacked(olds), unpacked(news))
        return CheckResult(news, [CheckFailure(key, reason) for key, reason in found])

    def problems(self, olds: Props, news: Props) -> list[tuple[str, str]]:  # for subclasses
        """Pairs of property and reason, read without dialling anything."""
        return []

    @at_the_edge
    def diff(self, _id: str, olds: Props, news: Props) -> DiffResult:
        """Say plainly whether declared inputs changed; the engine's own comparison would include the code."""
        return DiffResult(changes=bool(changed_keys(olds, news, self.inputs)))

    def stored(self, props: Mapping[str, Any], **observed: object) -> Props:
        """What goes to state: the declared inputs, the memos, and what was observed."""
        kept = {key: props[key] for key in (*self.inputs, *self.memos) if key in props}
        return {**kept, **observed}
