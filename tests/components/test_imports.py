"""A lab without a platform doesn't pay for one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NODES = "components.outputs, components.node, components.control_plane, components.spec"


def test_a_lab_of_bare_nodes_imports_nothing_of_the_platform():
    code = (
        f"import sys, {NODES}; print([name for name in ('pulumi_kubernetes', 'pulumi_random') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_objects_are_made_without_the_sdks_classes_of_them():
    """Importing those takes longer than the rest of a preview's program."""
    code = "import sys, components.platform; print([n for n in sys.modules if n.startswith('pulumi_kubernetes.core.')])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
