"""What is written of a source: itself, or several arrays that one pass gives."""

from collections.abc import Callable
from typing import Any

KEY = "data"

OUTPUTS: dict[str, Callable[[Any], Any]] = {
    KEY: lambda source: source,
    "inverted": lambda source: ~source,
    "thinned": lambda source: source[:, ::4],
}
"""By name, of rows of the source, be they numpy's or dask's. The rows stay the same."""
