"""One call that all ranks of an MPI communicator make: what each gives, and what that is together.

Either all give the same array, and share its blocks; or each gives a part of
its own, with the region of the target that it is. Together the parts are one
region, which is written and published as a whole.
"""

import itertools
import math
import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from dask.base import tokenize

from lazyio.dtypes import Shape
from lazyio.errors import BlockError, OptionError
from lazyio.execution.ranks import (
    Edges,
    Failure,
    Own,
    RankPart,
    Ranks,
    raise_first,
    ranks_of,
    sizes_of,
)
from lazyio.execution.report import WriteReport
from lazyio.execution.schedulers import Scheduler, active_client
from lazyio.inputs import Input, is_labelled
from lazyio.options import value_of
from lazyio.regions import Region, box_shape, format_region
from lazyio.sources.base import Array
from lazyio.writing.by_key import place_of_each
from lazyio.writing.call import Call
from lazyio.writing.compatibility import GrowableShape, window_at
from lazyio.writing.ragged import holds_ragged
from lazyio.writing.request import Request
from lazyio.writing.run_options import SourceGuard

_MOST_SHOWN = 200
"""Letters of an argument in an error."""
_OWN = frozenset({"data", "region", "comm", "scheduler", "progress"})
"""Arguments that each rank may give otherwise."""


@dataclass(frozen=True, kw_only=True)
class _Given:
    """What a rank gives of one array."""

    shape: Shape
    dtype: np.dtype[Any]
    edges: Edges | None
    """Sizes of its blocks, ``None`` where they are for the plan to choose."""
    region: Any
    """Where it goes, as that was given."""
    token: str
    """Name of what it holds; empty where nobody asks for it."""


@dataclass(frozen=True, kw_only=True)
class _Said:
    """What a rank says before anything is opened."""

    arguments: Mapping[str, tuple[str, str]]
    """Of the call: for each a name by which it is compared, and a text to show."""
    arrays: Mapping[str, _Given]
    """By their keys."""


@dataclass(frozen=True, kw_only=True)
class RankCall:
    """A call of a public function that all ranks make, and how its format goes on from there."""

    given: Mapping[str, Any]
    """Arguments of the function."""
    target: str
    """Which of them says where to."""
    call_of: Callable[[Mapping[str, Any]], Call]
    """Checks them."""
    inputs_of: Callable[[Call], Sequence[tuple[str, Input]]]
    """Returns the arrays, by the keys under which they go."""
    request_of: Callable[[Call], Request[Any]]
    """Plans and opens; on the first rank only."""
    is_open: bool = False
    """Whether every rank has the target open, by way of MPI-IO."""

    def write(self) -> WriteReport:
        """Carry the call out on this rank, and return what all of them return."""
        with ranks_of(self.given["comm"]) as ranks:
            is_one = self.is_one(ranks)
            report: WriteReport
            if ranks.is_first:
                report = ranks.lead(partial(self._lead, ranks, is_one=is_one))
            else:
                said, _ = self.said(ranks, is_one=is_one)
                ranks.gathered(said)
                report = ranks.follow()
            return report

    def is_one(self, ranks: Ranks) -> bool:
        """Return whether all ranks give the same array, and not each a part."""
        where = self.given["region"], self.given["append_dim"]
        return ranks.is_same(repr(where))

    def _lead(self, ranks: Ranks, *, is_one: bool) -> WriteReport:
        """Write what all ranks give."""
        own, call = self.said(ranks, is_one=is_one)
        said = ranks.gathered(own)
        require_one_call(said, is_one=is_one)
        if not is_one:
            call = replace(call, joined=partial(_joined, said))
        report: WriteReport = self.request_of(call).run(compute=True)
        return report

    def said(self, ranks: Ranks, *, is_one: bool) -> tuple[Any, Any]:
        """Return what this rank has to say, or what is wrong with it; and its checked call."""
        try:
            self._refuse()
            scheduler = Scheduler(kind="ranks", ranks=ranks)
            call = self.call_of({**self.given, "scheduler": scheduler})
            arrays = dict(self.inputs_of(call))
            _refuse_inputs(arrays.values())
            ranks.own = {
                key: Own(source=one.source, array=one.array) for key, one in arrays.items()
            }
            ranks.check = SourceGuard(ranks.own.values()).check
            places = [(call.region, call.append_dim)]
            if call.is_several:
                places = place_of_each(call.region, call.append_dim, list(call.data))
            has_tokens = is_one or call.running.resume
            found = {
                key: _given(one, region, has_token=has_tokens)
                for (key, one), (region, _) in zip(arrays.items(), places, strict=True)
            }
            said = _Said(arguments=_compared(self.given, self.target), arrays=found)
            _require_sendable(said, self.given["region"])
            return said, call
        except BaseException as error:  # noqa: BLE001 - raised on all ranks
            error.add_note(f"on rank {ranks.rank} of {ranks.size}")
            return error if ranks.is_first else Failure.of(error), None

    def _refuse(self) -> None:
        """Refuse what no ranks can do together."""
        given, refused = self.given, None
        if given["scheduler"] is not None:
            refused = "scheduler= says where graphs are computed, and with comm= that is the ranks"
        elif active_client() is not None:
            refused = "a dask client is connected, and comm= computes on the ranks; close it"
        elif given["compute"] is not True:
            refused = "compute=False is for one process, and comm= is a call of all ranks at once"
        elif value_of(given.get("links")) not in (None, "copy"):
            refused = 'links="link" writes no elements, for which one process is enough'
        elif not isinstance(given[self.target], (str, os.PathLike)) and not self.is_open:
            kind = type(given[self.target]).__name__
            refused = f"a {kind} is open in one process; give the path, on all ranks the same"
        elif is_labelled(given["data"]):
            refused = "objects of xarray with coordinates are written by one process or a cluster"
        elif holds_ragged(given["data"]):
            refused = "ragged rows are written by one process"
        if refused is not None:
            msg = f"comm={given['comm']!r}: {refused}; or leave comm= out"
            raise OptionError(msg)


def _require_sendable(said: _Said, region: Any) -> None:
    """Refuse here what could not be sent while others wait for it."""
    try:
        pickle.dumps(said)
    except Exception as error:
        msg = f"comm=: region={region!r} cannot be sent to rank 0; give integers and slices"
        raise OptionError(msg) from error


def _refuse_inputs(inputs: Any) -> None:
    """Refuse data that ranks cannot divide."""
    for one in inputs:
        if one.comes_once or one.is_empty:
            msg = (
                "comm=: a stream or iterator comes once, in one process, and ranks divide arrays "
                "by their regions; give an array, or leave comm= out"
            )
            raise OptionError(msg)


def _given(one: Input, region: Any, *, has_token: bool) -> _Given:
    graph = one.array if one.source is None else None
    token = ""
    if has_token:
        token = one.token[0] if graph is None else str(graph.name)
    edges = None if graph is None else sizes_of(graph.chunks)
    return _Given(shape=one.shape, dtype=one.dtype, edges=edges, region=region, token=token)


def _compared(given: Mapping[str, Any], target: str) -> dict[str, tuple[str, str]]:
    """Return the arguments that have to be the same on all ranks."""
    found = {}
    for name, value in given.items():
        if name not in _OWN:
            plain = os.fspath(value) if isinstance(value, os.PathLike) else value
            if name == target and not isinstance(plain, (str, bytes)):
                plain = repr(plain)
            found[name] = tokenize(plain), repr(plain)[:_MOST_SHOWN]
    return found


def require_one_call(said: Sequence[Any], *, is_one: bool) -> None:
    """Refuse what is no call of all ranks together, or raise what is wrong on any of them."""
    raise_first(said)
    _require_same_call(said)
    if is_one:
        _require_same_arrays(said)
    else:
        _require_parts(said)


def _require_same_call(said: Sequence[_Said]) -> None:
    """Refuse ranks that ask for something else than the first."""
    first = said[0]
    for rank, one in enumerate(said):
        for name, (token, text) in one.arguments.items():
            if token != first.arguments[name][0]:
                msg = (
                    f"comm=: rank {rank} gives {name}={text}, and rank 0 "
                    f"{name}={first.arguments[name][1]}; give the same on all ranks"
                )
                raise OptionError(msg)
        if list(one.arrays) != list(first.arrays):
            msg = (
                f"comm=: rank {rank} gives the arrays {list(one.arrays)}, and rank 0 "
                f"{list(first.arrays)}; give the same keys on all ranks, in the same order"
            )
            raise OptionError(msg)


def _require_same_arrays(said: Sequence[_Said]) -> None:
    """Refuse arrays that are not the same on all ranks."""
    for rank, one in enumerate(said):
        for key, given in one.arrays.items():
            first = said[0].arrays[key]
            if given.token != first.token:
                msg = (
                    f"comm=: {key!r} is another array on rank {rank} ({given.shape} {given.dtype}, "
                    f"{given.token}) than on rank 0 ({first.shape} {first.dtype}, {first.token}); "
                    "give all ranks the same array, one of random numbers with a seed, or each its "
                    "own part with region="
                )
                raise OptionError(msg)


def _require_parts(said: Sequence[_Said]) -> None:
    """Refuse parts that are no parts of one array."""
    for rank, one in enumerate(said):
        for key, given in one.arrays.items():
            first = said[0].arrays[key]
            if given.region is None:
                msg = (
                    f"comm=: rank {rank} gives no region= for {key!r}, and another rank does; give "
                    "each rank its own, or all of them the same array"
                )
                raise OptionError(msg)
            if given.dtype != first.dtype:
                msg = (
                    f"comm=: the part of {key!r} on rank {rank} has dtype {given.dtype}, and that "
                    f"on rank 0 {first.dtype}; convert them to one dtype with .astype"
                )
                raise OptionError(msg)


def _joined(
    said: Sequence[_Said], key: str, own: Input, room: GrowableShape
) -> tuple[Input, Region]:
    """Return the parts of all ranks as one array, and the region that they are together."""
    given = [one.arrays[key] for one in said]
    windows = [_window(rank, one, room) for rank, one in enumerate(given)]
    filled = {
        rank: window for rank, (window, _) in enumerate(windows) if math.prod(box_shape(window))
    }
    if not filled:
        return own, windows[0][0]
    whole = tuple(
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*filled.values(), strict=True)
    )
    require_apart(key, filled)
    _require_tiled(key, filled, whole)
    parts = tuple(
        _part(one, window, new_axes, whole)
        for one, (window, new_axes) in zip(given, windows, strict=True)
    )
    name = tokenize([(one.token, str(window)) for one, window in zip(given, windows, strict=True)])
    shape = box_shape(whole)
    of_sources = all(part.edges is None for part in parts)
    source = _JoinedSource(shape=shape, dtype=own.dtype, name=name) if of_sources else None
    array = None if of_sources else _joined_array(parts, shape, own.dtype, name)
    return replace(own, shape=shape, source=source, array=array, parts=parts), whole


def _window(rank: int, given: _Given, room: GrowableShape) -> tuple[Region, tuple[int, ...]]:
    """Return where a rank's part goes, and which axes it has not."""
    try:
        found = window_at(given.region, room, given.shape)
    except OptionError as error:
        error.add_note(f"on rank {rank}")
        raise
    return found.region, found.new_axes


def require_apart(key: str, windows: Mapping[int, Region]) -> None:
    """Refuse regions that overlap."""
    for (rank, one), (other_rank, other) in itertools.combinations(windows.items(), 2):
        pairs = zip(one, other, strict=True)
        if all(max(a.start, b.start) < min(a.stop, b.stop) for a, b in pairs):
            msg = (
                f"comm=: ranks {rank} and {other_rank} both write to {key!r}: "
                f"{format_region(one)} and {format_region(other)} overlap; give each rank a region "
                "of its own"
            )
            raise OptionError(msg)


def _require_tiled(key: str, windows: Mapping[int, Region], whole: Region) -> None:
    """Refuse regions that leave something out of the region around them."""
    n_given = sum(math.prod(box_shape(window)) for window in windows.values())
    n_missing = math.prod(box_shape(whole)) - n_given
    if n_missing:
        msg = (
            f"comm=: the regions of all ranks lie in {format_region(whole)} of {key!r}, and leave "
            f"{n_missing} elements of it out; give regions that are one region together, in one "
            "call each"
        )
        raise OptionError(msg)


def _part(given: _Given, window: Region, new_axes: Sequence[int], whole: Region) -> RankPart:
    """Return a rank's part as it lies in all that is written."""
    edges = given.edges
    if edges is not None:
        own = list(edges)
        for axis in new_axes:
            own.insert(axis, (1,))
        edges = tuple(own)
    corner = tuple(part.start - around.start for part, around in zip(window, whole, strict=True))
    return RankPart(corner=corner, shape=box_shape(window), edges=edges)


@dataclass(frozen=True, kw_only=True)
class _JoinedSource:
    """What the parts of all ranks are together, of which none has all."""

    shape: Shape
    dtype: np.dtype[Any]
    name: str
    """Of what the parts hold."""
    chunk_shape: Shape | None = None

    def __dask_tokenize__(self) -> Any:
        """Return what it is known by."""
        return "lazyio.ranks", self.name

    def read(self, region: Region) -> Array:
        """Refuse: each rank reads its own part."""
        msg = f"{format_region(region)} lies in parts of several ranks, and none has all of them"
        raise BlockError(msg)


def _joined_array(
    parts: Sequence[RankPart], shape: Shape, dtype: np.dtype[Any], name: str
) -> da.Array:
    """Return an array to plan for, cut wherever a block of any rank begins."""
    edges = []
    for axis, extent in enumerate(shape):
        stops = {extent}
        for part in parts:
            sizes = part.edges[axis] if part.edges is not None else (part.shape[axis],)
            stops.update(itertools.accumulate(sizes, initial=part.corner[axis]))
        ordered = sorted(stop for stop in stops if 0 < stop <= extent)
        edges.append(tuple(b - a for a, b in itertools.pairwise([0, *ordered])))
    array: da.Array = da.zeros(shape, chunks=tuple(edges), dtype=dtype, name=f"lazyio-ranks-{name}")
    return array
