"""What is appended to a copy's resources to take the devices out, and nothing else.

The program, its components, checks, diffs, secrets, certificates and everything that goes to state stay as they are;
only the creates answer at once instead of waiting for hardware that is not there. What is left is what the program
costs by itself.
"""

from __future__ import annotations

_TURINGPI = """
from providers.dynamic import at_the_edge  # noqa: E402


def _flashed(self: FlashProvider, props: Props) -> CreateResult:
    return CreateResult(f"{props['node']}-{props['slot']}", self.stored(props, raw_sha256="0" * 64))


def _powered(self: PowerProvider, props: Props) -> CreateResult:
    return CreateResult(f"{props['node']}-power", self.stored(props))


FlashProvider.create, PowerProvider.create = at_the_edge(_flashed), at_the_edge(_powered)
"""

_TALOS = """
from providers.dynamic import at_the_edge  # noqa: E402


def _made(self: SecretsProvider, props: Props) -> CreateResult:
    return CreateResult(props["cluster"], self.stored(props, bundle=pack(SecretsBundle.generate())))


def _configured(self: MachineProvider, props: Props) -> CreateResult:
    return CreateResult(f"{props['node']}-machine", self.stored(props, drift=""))


def _bootstrapped(self: ClusterProvider, props: Props) -> CreateResult:
    return CreateResult(props["cluster"], self.stored(props, **_credentials(props)))


SecretsProvider.create, MachineProvider.create = at_the_edge(_made), at_the_edge(_configured)
ClusterProvider.create = at_the_edge(_bootstrapped)
"""

_KUBERNETES = """
from providers.dynamic import at_the_edge  # noqa: E402


def _joined(self: MemberProvider, props: Props) -> CreateResult:
    return CreateResult(f"{props['node']}-member", self.stored(props, present=True))


MemberProvider.create = at_the_edge(_joined)
"""

ANSWERS_AT_ONCE = {
    "providers/turingpi/resources.py": _TURINGPI,
    "providers/talos/resources.py": _TALOS,
    "providers/kubernetes/resources.py": _KUBERNETES,
}
