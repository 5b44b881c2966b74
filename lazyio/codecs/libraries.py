"""Codec libraries that may or may not be installed, and which extra brings them."""

import ctypes
import importlib
import logging
from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

from lazyio.errors import OptionError

logger = logging.getLogger("lazyio")


@cache
def optional(module: str) -> ModuleType | None:
    """Return a module, or ``None`` when it is not installed.

    Examples
    --------
    >>> optional("zlib").__name__, optional("no_such_codec")
    ('zlib', None)
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        return None
    except Exception as error:  # noqa: BLE001 - numcodecs beside some versions of zfpy, say
        logger.warning("%s counts as not installed, for it cannot be imported: %s", module, error)
        return None


def required(module: str, *, what: str, extra: str) -> ModuleType:
    """Return a module, or say which extra brings it."""
    found = optional(module)
    if found is None:
        package = module.partition(".")[0]
        msg = f'{what} needs {package}, which is not installed; run pip install "lazyio[{extra}]"'
        raise OptionError(msg)
    return found


def shared_functions(
    path: str, arguments: Mapping[str, Sequence[Any]], *, returns: Any
) -> ctypes.CDLL | None:
    """Return a C library with typed functions, ``None`` where one of them is missing.

    Calls by way of ctypes release the GIL.

    Examples
    --------
    >>> shared_functions("/no/such/library.so", {}, returns=ctypes.c_int) is None
    True
    """
    try:
        library = ctypes.CDLL(path)
        for name, types in arguments.items():
            function = getattr(library, name)
            function.argtypes, function.restype = list(types), returns
    except (OSError, AttributeError):
        return None
    return library
