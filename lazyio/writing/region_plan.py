"""A part of an existing array: where it lies, whether the data fit it, and how they are cut."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from lazyio.dtypes import Shape, Stored, nbytes_of
from lazyio.execution.ranks import RankPart
from lazyio.inputs import Input
from lazyio.planning.display import plural
from lazyio.planning.plan import Advice, Plan
from lazyio.regions import cuts_chunks, n_touched
from lazyio.units import format_size
from lazyio.writing.append_iterables import offset_input
from lazyio.writing.array_plan import PlannedArray, expanded
from lazyio.writing.compatibility import GrowableShape, TargetRegion, window_for
from lazyio.writing.settings import ArraySettings

Settings = TypeVar("Settings", bound=ArraySettings)
Settings_contra = TypeVar("Settings_contra", bound=ArraySettings, contravariant=True)

_MUCH = 3
"""Bytes of chunks that are written anew for each byte of data, from which on a plan says so."""
_MUCH_NBYTES = 2**20
"""And in all."""


class ExistingArray(Protocol[Settings_contra]):
    """An existing array, which is what it is whatever is asked for."""

    @property
    def handle(self) -> Any:
        """The array, as it is open."""

    @property
    def room(self) -> GrowableShape:
        """Its extents, and how far it may grow."""

    @property
    def unit(self) -> Shape:
        """Extents of what is written whole: a chunk, a shard, or a run where nothing is chunked."""

    @property
    def kind(self) -> str:
        """How it is cut and of which type: what else a plan depends on, beside its extents."""

    def others_asked(self, settings: Settings_contra) -> Mapping[str, Any]:
        """Return what the user said beside what all arrays have, and it may contradict."""

    def fitted(self, settings: Settings_contra, given: Input, others: Mapping[str, Any]) -> Stored:
        """Return the form of its elements, once nothing differs from what is asked."""

    def planned(
        self,
        key: str,
        given: Input,
        settings: Settings_contra,
        form: Stored,
        *,
        merges_chunks: bool,
    ) -> PlannedArray:
        """Return the plan for data that goes into existing chunks."""


def plan_part(
    array: ExistingArray[Settings],
    key: str,
    given: Input,
    settings: Settings,
    *,
    region: Any,
    append_dim: Any,
) -> tuple[PlannedArray, TargetRegion]:
    """Return the plan for a part of an existing array, and which part it is."""
    room, unit = array.room, array.unit
    if given.comes_once:
        given, window = offset_input(given, room, region, append_dim)
    else:
        window = window_for(room, given.shape, region, append_dim)
    others = array.others_asked(settings)
    settings = settings.completed(given)
    settings.check()
    form = array.fitted(settings, given, others)
    given = expanded(given, window.new_axes)

    # A chunk at the rim is read, and its compressed form with it.
    merges_chunks = given.comes_once or cuts_chunks(window.region, window.shape, unit)
    arranged = array.planned(key, given, settings, form, merges_chunks=merges_chunks)
    if given.parts:
        advice = (*arranged.plan.advice, *_on_ranks(given.parts, window, unit))
        arranged = replace(arranged, plan=replace(arranged.plan, advice=advice))
    if merges_chunks and not given.comes_once:
        plan = arranged.plan
        advice = (*plan.advice, *_on_rim(window, unit, plan))
        arranged = replace(arranged, plan=replace(plan, advice=advice))
    return arranged, window


def _on_ranks(parts: Sequence[RankPart], window: TargetRegion, unit: Shape) -> Advice:
    """Return a hint where ranks of MPI share chunks, which go by way of the first."""
    found = []
    for axis, (step, bounds) in enumerate(zip(unit, window.region, strict=True)):
        starts = {bounds.start + part.corner[axis] for part in parts} - {bounds.start}
        if any(start % step for start in starts):
            found.append(f"multiples of {step} along axis {axis}")
    if not found:
        return ()
    text = (
        f"parts of ranks begin inside chunks of {unit}, which the first rank puts together and "
        f"writes; let them begin at {' and '.join(found)}"
    )
    return (("ranks-share-chunks", text),)


def _on_rim(window: TargetRegion, unit: Shape, plan: Plan) -> Advice:
    """Return a hint where chunks that exist are written anew for much less than they hold."""
    n_chunks = n_touched(window.region, unit)
    nbytes = n_chunks * nbytes_of(unit, plan.dtype)
    if nbytes < max(_MUCH_NBYTES, _MUCH * plan.nbytes):
        return ()
    text = (
        f"{format_size(plan.nbytes)} of data touch {n_chunks} {plural('chunk', n_chunks)} of "
        f"{unit}: {format_size(nbytes)} are written anew; whole chunks cost no more than they hold"
    )
    return (("parts-of-chunks", text),)
