"""Running one measurement in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


class ChildError(RuntimeError):
    """A measurement failed; the message is what its process said."""


def run_child(module: str, argument: str) -> Any:
    """Run a module of this package; return what it printed last, as JSON.

    Parameters
    ----------
    module : str
        Its name inside the package.
    argument : str
        Its only argument.

    Raises
    ------
    ChildError
        When it did not end well.
    """
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.{module}", argument]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ChildError(done.stderr.strip() or f"exit status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])
