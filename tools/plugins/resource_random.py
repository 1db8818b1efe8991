#!/usr/bin/env python3
"""Stands in for Pulumi's plugin `random` where its release can't be fetched: RandomPassword, and nothing else of it.

Token, properties, defaults and outputs are the published ones, so a program can't tell the two apart, and neither
can a state. What it doesn't know it refuses. The installer copies this file; it runs in the checkout's Python.

Protocol: pulumi/provider.proto. The engine starts the file, reads a port from its first line, and calls it there.
"""

from __future__ import annotations

import secrets
import string
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import bcrypt
import grpc
from google.protobuf import json_format, struct_pb2
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

VERSION = "4.21.4"
TOKEN = "random:index/randomPassword:RandomPassword"  # noqa: S105  the type's name
BCRYPT_ROUNDS = 10
BCRYPT_BYTES = 72  # bcrypt looks at no more

ALPHABETS = {
    "lower": string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "numeric": string.digits,
    "special": "!@#$%&*()-_=+[]{}<>:?",
}
MINIMA = {"lower": "minLower", "upper": "minUpper", "numeric": "minNumeric", "special": "minSpecial"}
DEFAULTS: dict[str, Any] = {**dict.fromkeys(ALPHABETS, True), **dict.fromkeys(MINIMA.values(), 0)}
WHOLE_NUMBERS = ("length", *MINIMA.values())
KNOWN = {*DEFAULTS, "length", "overrideSpecial", "keepers"}

# How properties look on the wire that are not known yet, or secret (pulumi/sdk: resource/plugin/rpc.go).
UNKNOWN = frozenset(
    {
        "04da6b54-80e4-46f7-96ec-b56ff0331ba9",  # a string
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",  # a boolean
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",  # a number
    }
)
SIGNATURE, SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"

Properties = dict[str, Any]


class Random(provider_pb2_grpc.ResourceProviderServicer):
    """What the engine calls. A password is made once; every change of what it is made from makes another."""

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=VERSION)

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.DiffResponse()

    def Configure(self, request: Any, context: Any) -> Any:
        return provider_pb2.ConfigureResponse()

    def Check(self, request: Any, context: Any) -> Any:
        refuse_others(request.urn, context)
        failures = [
            provider_pb2.CheckFailure(property=name, reason=reason) for name, reason in mistakes(read(request.news))
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def Diff(self, request: Any, context: Any) -> Any:
        changed = differing(read(request.old_inputs), read(request.news))
        changes = provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(changes=changes, replaces=changed, diffs=changed)

    def Create(self, request: Any, context: Any) -> Any:
        refuse_others(request.urn, context)
        return provider_pb2.CreateResponse(id="none", properties=write(outputs(read(request.properties))))

    def Read(self, request: Any, context: Any) -> Any:
        refuse_others(request.urn, context)
        if "result" not in request.properties:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this stand-in for the plugin `random` imports nothing")
        return provider_pb2.ReadResponse(id=request.id, properties=request.properties, inputs=request.inputs)

    def Delete(self, request: Any, context: Any) -> Any:
        return Empty()

    def Cancel(self, request: Any, context: Any) -> Any:
        return Empty()


def refuse_others(urn: str, context: Any) -> None:
    """Abort the call unless it is about a RandomPassword."""
    kind = urn.split("::")[2].rsplit("$", 1)[-1]
    if kind != TOKEN:
        known = f"this stand-in for the plugin `random` knows {TOKEN} only, not {kind}"
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, known)


def mistakes(inputs: Properties) -> Iterator[tuple[str, str]]:
    """What is wrong with the inputs: the property and what to do about it."""
    for name in sorted(set(inputs) - KNOWN):
        yield name, f"not known to this stand-in for the plugin `random`; it knows {', '.join(sorted(KNOWN))}"
    wrong = [(name, f"must be {wanted}, not {inputs[name]!r}") for name, wanted in _misfits(inputs)]
    yield from wrong or _impossible({**DEFAULTS, "length": 0, **inputs})


def _misfits(inputs: Properties) -> Iterator[tuple[str, str]]:
    for name, value in inputs.items():
        if name in WHOLE_NUMBERS and not ((type(value) in (int, float) and value == int(value) >= 0) or unknown(value)):
            yield name, "a whole number"
        if name in ALPHABETS and not (isinstance(value, bool) or unknown(value)):
            yield name, "true or false"
        if name == "overrideSpecial" and not isinstance(value, str):
            yield name, "a string"


def _impossible(asked: Properties) -> Iterator[tuple[str, str]]:
    if any(unknown(value) for value in asked.values()):
        return
    least = max(1, sum(int(asked[name]) for name in MINIMA.values()))
    if asked["length"] < least:
        yield "length", f"must be at least {least}: 1, and the sum of the minima"
    if not any(asked[name] for name in ALPHABETS):
        yield "lower", "at least one of lower, upper, numeric and special must be true"


def unknown(value: Any) -> bool:
    """Whether it stands for a value that only comes to be while `up` runs."""
    return isinstance(value, str) and value in UNKNOWN


def differing(old: Properties, new: Properties) -> list[str]:
    """The properties in which two sets of inputs differ; what is left out has its default."""
    before, after = {**DEFAULTS, **old}, {**DEFAULTS, **new}
    names = sorted(name for name in {*before, *after} if not name.startswith("__"))
    return [name for name in names if before.get(name) != after.get(name)]


def outputs(inputs: Properties) -> Properties:
    """A new password with its hash, and everything that it was made from."""
    asked = {**DEFAULTS, **inputs}
    result = password(asked)
    hashed = bcrypt.hashpw(result.encode()[:BCRYPT_BYTES], bcrypt.gensalt(BCRYPT_ROUNDS, prefix=b"2a"))
    return {**asked, "number": asked["numeric"], "result": secret(result), "bcryptHash": secret(hashed.decode())}


def password(asked: Mapping[str, Any]) -> str:
    """As many letters as asked for: first the least number of each kind, then of any kind allowed; shuffled."""
    alphabets = {**ALPHABETS, **({"special": asked["overrideSpecial"]} if asked.get("overrideSpecial") else {})}
    letters = [secrets.choice(alphabets[kind]) for kind, least in MINIMA.items() for _ in range(int(asked[least]))]
    allowed = "".join(alphabet for kind, alphabet in alphabets.items() if asked[kind])
    letters += [secrets.choice(allowed) for _ in range(int(asked["length"]) - len(letters))]
    secrets.SystemRandom().shuffle(letters)
    return "".join(letters)


def secret(value: str) -> Properties:
    """A value that the engine keeps encrypted."""
    return {SIGNATURE: SECRET, "value": value}


def read(message: Any) -> Properties:
    """The properties of a message."""
    properties: Properties = json_format.MessageToDict(message)
    return properties


def write(properties: Properties) -> Any:
    """A message with these properties."""
    message = struct_pb2.Struct()
    message.update(properties)
    return message


def main() -> None:
    """Serve until the engine closes our input, which it also does by dying."""
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Random(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(grace=None)


if __name__ == "__main__":
    main()
