"""How much memory is free, for this process and no other.

On Linux that is what the kernel calls available, or less where a control
group (a container, a batch job) sets a limit, at any level above the process.
Pages that only cache files count as free: the kernel gives them up.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from lazyio.errors import OptionError

_UNLIMITED = 2**60
"""Control groups without a limit say so with a word, or with a number near 2**63."""


def auto_limit(root: Path = Path("/")) -> int:
    """Return half of the memory that is free."""
    free = free_nbytes(root)
    if free is None:
        msg = 'memory_limit="auto": this system does not say what is free; give a size, as "2 GiB"'
        raise OptionError(msg)
    return max(1, free // 2)


def free_nbytes(root: Path = Path("/")) -> int | None:
    """Return the bytes that this process may still take, or ``None`` if nothing says."""
    found = [*_available(root), *_left_in_groups(root)]
    return max(0, min(found)) if found else None


def total_nbytes() -> int | None:
    """Return the bytes of memory that the machine has, or ``None`` if nothing says."""
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names or "SC_PAGE_SIZE" not in names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _available(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/meminfo"):
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            yield int(rest.split()[0]) * 1024
            return
    yield from _pages()


def _pages() -> Iterator[int]:
    """Yield what the system says in pages: those that are free, or half of all."""
    names = getattr(os, "sysconf_names", {})
    for name, share in (("SC_AVPHYS_PAGES", 1), ("SC_PHYS_PAGES", 2)):
        if name in names and "SC_PAGE_SIZE" in names:
            yield os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") // share
            return


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yield what every control group above the process has left."""
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount, files = root / "sys/fs/cgroup", _VERSION_2
        elif "memory" in controllers.split(","):
            mount, files = root / "sys/fs/cgroup/memory", _VERSION_1
        else:
            continue
        group = path.strip("/")
        # A container may see its own group as the root, under a path that only the host has.
        parts = group.split("/") if group else []
        for depth in range(len(parts), -1, -1):
            yield from _left(mount.joinpath(*parts[:depth]), *files)


_VERSION_2 = ("memory.max", "memory.current", "inactive_file")
_VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _left(group: Path, limit_name: str, usage_name: str, cache_name: str) -> Iterator[int]:
    limit = _number(group / limit_name)
    usage = _number(group / usage_name)
    if limit is None or usage is None or limit >= _UNLIMITED:
        return
    cache = 0
    for line in _lines(group / "memory.stat"):
        name, _, value = line.partition(" ")
        if name == cache_name:
            cache = int(value)
    yield limit - max(0, usage - cache)


def _number(path: Path) -> int | None:
    for line in _lines(path):
        return int(line) if line.strip().isdecimal() else None
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii", "replace").splitlines()
    except OSError:
        return []
