"""Adapters of other packages, found by their entry points in the group ``lazyio.sources``.

They are loaded only when lazyio's own adapters do not know what is opened.
"""

import inspect
import logging
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, runtime_checkable

from lazyio.errors import LazyioError, OptionError, SourceError
from lazyio.sources.base import Source
from lazyio.sources.foreign import described

GROUP = "lazyio.sources"
"""Of the entry points; their names are what ``format=`` calls them."""

logger = logging.getLogger("lazyio")


@runtime_checkable
class SourcePlugin(Protocol):
    """What an entry point in the group ``lazyio.sources`` leads to: a module, or an object.

    Examples
    --------
    >>> class Toy:
    ...     def recognises(self, obj):
    ...         return str(obj).endswith(".toy")
    ...     def open(self, obj, key=None):
    ...         return ToySource(obj)
    >>> isinstance(Toy(), SourcePlugin)
    True
    """

    def recognises(self, obj: Any) -> bool:
        """Return whether a path or an object is one that it can open; reading little."""

    def open(self, obj: Any, key: str | None = None) -> Source:
        """Return the source; further parameters are options that ``lazyio.open`` takes."""


def plugin_names() -> list[str]:
    """Return the names of the formats that other packages bring."""
    return sorted({one.name for one in entry_points(group=GROUP)})


def plugin_source(
    obj: Any, key: str | None, options: Mapping[str, Any], name: str | None = None
) -> tuple[Source | None, str]:
    """Return the source of the first plugin that recognises an object, and what is wrong else.

    With a name it is the plugin of that name, whatever it recognises; then an error of it is
    raised. Else a plugin that is broken keeps nobody from the others.
    """
    broken: list[str] = []
    for entry in _entries(name):
        try:
            plugin = _loaded(entry)
            if name is None and not _recognises(entry, plugin, obj):
                continue
        except SourceError as error:
            if name is not None:
                raise
            logger.warning("%s", error)
            broken.append(str(error))
            continue
        return _opened(entry, plugin, obj, key, options), ""
    return None, "".join(f"; {one}" for one in broken)


def is_recognised(obj: Any) -> bool:
    """Return whether a plugin recognises an object."""
    for entry in _entries(None):
        try:
            if _recognises(entry, _loaded(entry), obj):
                return True
        except SourceError as error:
            logger.warning("%s", error)
    return False


def _entries(name: str | None) -> Iterator[EntryPoint]:
    found = entry_points(group=GROUP)
    yield from sorted(found if name is None else found.select(name=name), key=lambda one: one.name)


def _named(entry: EntryPoint) -> str:
    package = f" of package {entry.dist.name} {entry.dist.version}" if entry.dist else ""
    return f"the plugin {entry.name!r}{package}"


_REMEDY = "update or uninstall the package, or tell its authors"


def _loaded(entry: EntryPoint) -> SourcePlugin:
    try:
        plugin = entry.load()
        plugin = plugin() if isinstance(plugin, type) else plugin
    except Exception as error:
        msg = f"{_named(entry)} cannot be loaded: {described(error)}; {_REMEDY}"
        raise SourceError(msg) from error
    if not isinstance(plugin, SourcePlugin):
        msg = (
            f"{_named(entry)} leads to {entry.value}, which has no functions recognises(obj) and "
            f"open(obj, key); {_REMEDY}"
        )
        raise SourceError(msg)
    return plugin


def _recognises(entry: EntryPoint, plugin: SourcePlugin, obj: Any) -> bool:
    try:
        return bool(plugin.recognises(obj))
    except Exception as error:
        msg = f"{_named(entry)} failed to look at {_short(obj)}: {described(error)}; {_REMEDY}"
        raise SourceError(msg) from error


def _opened(
    entry: EntryPoint, plugin: SourcePlugin, obj: Any, key: str | None, options: Mapping[str, Any]
) -> Source:
    try:
        inspect.signature(plugin.open).bind(obj, key, **options)
    except TypeError as error:
        msg = f"{', '.join(options) or 'key'}: {_named(entry)} does not take it: {error}"
        raise OptionError(msg) from error
    try:
        source = plugin.open(obj, key, **options)
    except LazyioError:
        raise
    except Exception as error:
        msg = f"{_named(entry)} failed to open {_short(obj)}: {described(error)}"
        raise SourceError(msg) from error
    # What another package promises is seen to be so.
    if not _is_source(source):
        msg = (
            f"{_named(entry)} gave a {type(source).__name__} for {_short(obj)}, which has no "
            f"shape, dtype, chunk_shape and read(region); {_REMEDY}"
        )
        raise SourceError(msg)
    return source


def _is_source(obj: object) -> bool:
    return isinstance(obj, Source)


def _short(obj: Any) -> str:
    return str(obj) if isinstance(obj, str) or hasattr(obj, "__fspath__") else type(obj).__name__
