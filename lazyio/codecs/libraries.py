"""Codec libraries that may or may not be installed, and which extra brings them."""

import importlib
from functools import cache
from types import ModuleType

from lazyio.errors import OptionError


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


def required(module: str, *, what: str, extra: str) -> ModuleType:
    """Return a module, or say which extra brings it.

    Parameters
    ----------
    module : str
        Dotted name to import.
    what : str
        What needs it, as the user wrote it.
    extra : str
        Extra of lazyio that installs it.

    Returns
    -------
    module
        The imported module.

    Raises
    ------
    OptionError
        When it is not installed.
    """
    found = optional(module)
    if found is None:
        package = module.partition(".")[0]
        msg = f'{what} needs {package}, which is not installed; run pip install "lazyio[{extra}]"'
        raise OptionError(msg)
    return found
