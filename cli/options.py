"""The options that mean the same with every verb."""

from typing import Annotated

import typer

StackName = Annotated[str, typer.Option("--stack", "-s", help="Which lab: `twin` is simulated.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Answer every question with yes.")]
Cluster = Annotated[
    str | None, typer.Option("--cluster", help="A cluster on Linux hosts; without it, the one of Talos.")
]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]
