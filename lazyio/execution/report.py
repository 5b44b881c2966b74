"""What a write has done, for people and for code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lazyio.planning import Plan
from lazyio.planning.display import plural
from lazyio.units import format_size

_MOST_NAMED = 8
"""Arrays that are listed."""


def named(keys: Sequence[str]) -> str:
    """Return the keys of arrays, of many the first."""
    found = [key for key in dict.fromkeys(keys) if key]
    return ", ".join(found if len(found) <= _MOST_NAMED else [*found[:3], "..."])


@dataclass(frozen=True, kw_only=True, repr=False)
class WriteReport:
    """What was written, how, and how long it took; ``str()`` is two lines."""

    path: str
    """File or store."""
    keys: tuple[str, ...]
    """Datasets or arrays written."""
    nbytes: int
    """Bytes before encoding."""
    stored_nbytes: int
    """Bytes of all payloads as stored."""
    seconds: float
    """From the call to the published file."""
    n_blocks: int
    """Blocks that were computed or read."""
    n_chunks: int
    """Chunks of all arrays."""
    n_resumed: int
    """Blocks that an interrupted run had finished already."""
    peak_nbytes: int
    """Bytes that the run was planned to hold at most."""
    engine: str
    """``direct``: encoded here; ``libhdf5`` or ``zarr-python``: by that library; ``link``."""
    advice: tuple[tuple[str, str], ...]
    """``(code, message)`` pairs on what the user chose."""
    plans: Mapping[str, Plan]
    """How each array was cut, by its key."""

    @property
    def plan(self) -> Plan:
        """How the array was cut; of several the first."""
        return next(iter(self.plans.values()))

    def __repr__(self) -> str:
        """Return the same as ``str()``: the plans would fill a screen."""
        return str(self)

    def __str__(self) -> str:
        """Return two lines: what and where, then how much and how fast; then any advice."""
        # Bytes of names that are no UTF-8 could not be printed.
        return self._told().encode(errors="backslashreplace").decode()

    def _told(self) -> str:
        ratio = self.nbytes / self.stored_nbytes if self.stored_nbytes else 1.0
        rate = format_size(int(self.nbytes / max(self.seconds, 1e-9)))
        where = f"{self.path} {named(self.keys)}".rstrip()
        what, cut = f"{len(self.plans)} arrays", ""
        if len(self.plans) == 1:
            what, cut = f"{self.plan.shape} {self.plan.dtype}", f" of {self.plan.chunk_shape}"
        done = f"{self.n_resumed} of {self.n_blocks} blocks were kept"
        if self.n_blocks == self.n_resumed > 0 and not self.stored_nbytes:
            return f"kept {where}: {what}\n{done}, nothing was written"
        lines = (
            f"wrote {where}: {what}, {self.n_chunks} {plural('chunk', self.n_chunks)}{cut} from "
            f"{self.n_blocks} {plural('block', self.n_blocks)}\n"
            f"{format_size(self.nbytes)} as {format_size(self.stored_nbytes)} ({ratio:.2f}x) in "
            f"{self.seconds:.3g} s, {rate}/s, at most {format_size(self.peak_nbytes)} in memory, "
            f"engine {self.engine}"
        )
        if self.n_resumed:
            lines += f", {done}"
        return "\n".join([lines, *(f"advice: {text} [{code}]" for code, text in self.advice)])
