"""A child that ends, as if killed, at one of the steps by which it changes files."""

import os
from collections.abc import Callable, Sequence

CALLS = ("rename", "replace", "link", "unlink", "mkdir", "fsync", "pwrite", "ftruncate", "rmdir")


def killed(last: int, write: Callable[[], object], calls: Sequence[str] = CALLS) -> bool:
    """Write in a child that ends after so many calls that change files; return whether it did."""
    child = os.fork()
    if not child:
        left = [last]

        def wrapped(real):
            def call(*args, **kwargs):
                if not left[0]:
                    os._exit(9)
                left[0] -= 1
                return real(*args, **kwargs)

            return call

        for name in calls:
            setattr(os, name, wrapped(getattr(os, name)))
        try:
            write()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] >> 8 == 9
