"""Sizes in bytes, as people type them and as they are shown.

The one place that turns ``"64 MiB"`` into an integer and back.
"""

import operator
import re
from typing import SupportsIndex

import numpy as np

from lazyio.errors import OptionError

_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "pb": 10**15,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "pib": 2**50,
}
_SIZE = re.compile(r"\s*(\d+)(?:\.(\d+))?\s*([a-zA-Z]*)\s*")


def parse_size(size: SupportsIndex | float | str, name: str) -> int:
    """Return a size in bytes.

    Examples
    --------
    >>> parse_size("64 MiB", "memory_limit")
    67108864
    >>> parse_size("1.5 GB", "memory_limit")
    1500000000
    """
    nbytes = _from_text(size) if isinstance(size, str) else _from_number(size)
    if nbytes is None or nbytes < 1:
        msg = (
            f"{name}={size!r} is not a size; give a positive number of bytes, "
            'or a string such as "64 MiB" or "1 GB"'
        )
        raise OptionError(msg)
    return nbytes


_MOST_NBYTES = 2**80


def format_size(nbytes: int) -> str:
    """Return bytes as a person reads them, with a binary unit.

    Examples
    --------
    >>> format_size(67108864), format_size(1500), format_size(12)
    ('64 MiB', '1.46 KiB', '12 B')
    """
    if nbytes > _MOST_NBYTES:
        return "more than 2^80 B"  # What a damaged file says may be too large for a float.
    value = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if value < 1024 or unit == "PiB":
            break
        value /= 1024
    digits = f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{digits} {unit}"


def _from_text(text: str) -> int | None:
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    whole, fraction, unit = match.groups()
    scale = _UNITS.get(unit.lower())
    if scale is None:
        return None
    fraction = fraction or ""
    # Exact: "1.5 GB" is 15 * 10**9 // 10, never a rounded float.
    return int(whole + fraction) * scale // int(10 ** len(fraction))


def _from_number(number: SupportsIndex | float) -> int | None:
    if isinstance(number, (bool, np.bool_)):
        return None
    if isinstance(number, float):
        return int(number) if number.is_integer() else None
    try:
        return operator.index(number)
    except TypeError:
        return None
