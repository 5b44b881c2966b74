"""Progress of a write: one step a block, whoever runs it."""

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TextIO

from lazyio.codecs.libraries import optional
from lazyio.errors import OptionError
from lazyio.regions import Region
from lazyio.units import format_size

_WIDTH = 30


@dataclass(frozen=True, kw_only=True)
class Step:
    """One block has been written."""

    key: str
    """Where it belongs."""
    region: Region
    """Which part of the array it is."""
    n_done: int
    """Blocks written so far."""
    n_total: int
    """Blocks in all."""
    nbytes: int
    """Bytes written so far, before encoding."""
    seconds: float
    """Since the first block was begun."""


Callback = Callable[[Step], object]


def check_progress(wanted: Any) -> None:
    """Refuse what can be told nothing."""
    if not (callable(wanted) or isinstance(wanted, bool)):
        msg = f"progress={wanted!r}; give True for a bar, or a function that takes a step"
        raise OptionError(msg)


class Progress:
    """Counts blocks and tells whoever wants to know; a context manager."""

    def __init__(self, wanted: Any, *, n_total: int, total_nbytes: int | None) -> None:
        check_progress(wanted)
        self._n_total = n_total
        self._n_done = 0
        self._nbytes = 0
        self._began = time.perf_counter()
        self._bar = _bar(total_nbytes) if wanted is True else None
        self._has_waited = False
        self._callback: Callback | None = wanted if callable(wanted) else None

    def advance(self, key: str, region: Region, nbytes: int) -> None:
        """Count one block, on the thread that waits for the run."""
        self._n_done += 1
        self._nbytes += nbytes
        if self._bar is not None:
            if self._has_waited:
                self._bar.set_postfix_str("")
                self._has_waited = False
            self._bar.update(nbytes)
        if self._callback is not None:
            step = Step(
                key=key,
                region=region,
                n_done=self._n_done,
                n_total=self._n_total,
                nbytes=self._nbytes,
                seconds=time.perf_counter() - self._began,
            )
            self._callback(step)

    def wait(self, named: str) -> None:
        """Draw which blocks are under way, when nothing has come for long."""
        if self._bar is not None and named:
            self._bar.set_postfix_str(f"waiting for {named}")
            self._has_waited = True

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Leave the bar as it stands, full after a run that was shorter than expected."""
        if self._bar is not None:
            if kind is None:
                self._bar.total = self._nbytes
                self._bar.refresh()
            self._bar.close()


def _bar(total_nbytes: int | None) -> Any:
    tqdm = optional("tqdm.auto")
    if tqdm is not None:
        size: dict[str, int] = {}
        if sys.stderr.isatty():
            # On a terminal that does not know its size tqdm would draw nothing.
            columns, lines = shutil.get_terminal_size()
            size = {"ncols": columns, "nrows": lines}
        return tqdm.tqdm(total=total_nbytes, unit="B", unit_scale=True, unit_divisor=1024, **size)
    return PlainBar(total_nbytes, sys.stderr)


class ProgressLines:
    """Writes a line every few seconds, for a log.

    Examples
    --------
    >>> lines = ProgressLines(sys.stdout, pause=10)
    >>> for n in (1, 2, 3):
    ...     lines(Step(key="x", region=(), n_done=n, n_total=4, nbytes=n << 30, seconds=n * 8.0))
    lazyio: 2 of 4 blocks (50 %), 2 GiB, 128 MiB/s, at 'x'
    """

    def __init__(self, stream: TextIO, *, pause: float) -> None:
        self._stream = stream
        self._pause = pause
        self._told = 0.0

    def __call__(self, step: Step) -> None:
        """Write a line, if it is time for one."""
        if step.seconds - self._told < self._pause:
            return
        self._told = step.seconds
        share = f" ({step.n_done / step.n_total:.0%})".replace("%", " %") if step.n_total else ""
        rate = format_size(int(step.nbytes / max(step.seconds, 1e-9)))
        self._stream.write(
            f"lazyio: {step.n_done} of {step.n_total} blocks{share}, {format_size(step.nbytes)}, "
            f"{rate}/s, at {step.key!r}\n"
        )
        self._stream.flush()


class PlainBar:
    """A bar of text for where tqdm is not installed."""

    def __init__(self, total_nbytes: int | None, stream: TextIO) -> None:
        self.total = total_nbytes
        self._done = 0
        self._stream = stream
        self._began = time.perf_counter()
        self._text = ""

    def update(self, nbytes: int) -> None:
        """Draw the bar with that many bytes more."""
        self._done += nbytes
        self.refresh()

    def set_postfix_str(self, text: str) -> None:
        """Draw the bar with a text behind it."""
        self._text = text
        self.refresh()

    def refresh(self) -> None:
        """Draw the bar."""
        drawn = ""
        if self.total is not None:
            share = min(1.0, self._done / max(1, self.total))
            drawn = f"{share:4.0%} [{'#' * int(share * _WIDTH):<{_WIDTH}}] "
        rate = self._done / max(1e-9, time.perf_counter() - self._began)
        self._stream.write(
            f"\r{drawn}{format_size(self._done)}, {format_size(int(rate))}/s {self._text} "
        )
        self._stream.flush()

    def close(self) -> None:
        """End the line."""
        self._stream.write("\n")
        self._stream.flush()
