"""How long a lock is waited for that another process holds."""

import errno
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from lazyio.errors import TargetError, TargetLockedError

logger = logging.getLogger("lazyio")

Result = TypeVar("Result")

_PAUSES = 0.01, 0.05
"""Seconds between two looks: at random, so that no two processes keep step with each other."""


class Patience:
    """So many seconds in which a lock is asked for again and again.

    Nobody who waits knows of the others who do, and all of them look equally often: each is
    as likely as any other to be the next.
    """

    def __init__(self, seconds: float = 0.0, *, argument: str = "") -> None:
        self._seconds = seconds
        self._argument = argument

    def retry(self, attempt: Callable[[], Result]) -> Result:
        """Return what an attempt returns, which is made again while another holds the lock."""
        began = time.monotonic()
        is_told = False
        while True:
            try:
                return attempt()
            except TargetLockedError as error:
                if time.monotonic() - began >= self._seconds:
                    raise self._at_last(error) from None
                if not is_told:
                    logger.info("waiting for up to %g s: %s", self._seconds, error)
                    is_told = True
            time.sleep(random.uniform(*_PAUSES))

    def follow(self, attempt: Callable[[], Result]) -> Result:
        """Return what an attempt returns, made anew where others have changed what it was for."""
        began = time.monotonic()
        while True:
            try:
                return attempt()
            except TargetError as error:
                is_over = time.monotonic() - began >= self._seconds
                if error.errno != errno.EBUSY or is_over:
                    raise
            time.sleep(random.uniform(*_PAUSES))

    def _at_last(self, error: TargetLockedError) -> TargetLockedError:
        """Return the error of the last attempt, which says for how long it was waited."""
        if not self._seconds:
            return error
        changes = f"; give a longer {self._argument}=" if self._argument else ""
        msg = f"{error}. It was waited for {self._seconds:g} s{changes}"
        return TargetLockedError(error.errno, msg)
