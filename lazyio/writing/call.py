"""The arguments of one call, checked once, and the arrays or parts of arrays it writes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

from lazyio.errors import OptionError
from lazyio.inputs import Input
from lazyio.options import check_flags
from lazyio.writing.by_key import attributes_by_key, place_of_each, settings_of_each
from lazyio.writing.compatibility import GrowableShape
from lazyio.writing.multi_array import (
    holds_several,
    items_of,
    planned,
    refuse_clashes,
    refuse_for_streams,
    with_fixed,
)
from lazyio.writing.refusals import Refusals
from lazyio.writing.region_plan import ExistingArray, plan_part
from lazyio.writing.request import RegionItem, WriteItem
from lazyio.writing.run_options import RunOptions
from lazyio.writing.settings import ArraySettings
from lazyio.writing.target_checks import check_mode

Item = TypeVar("Item", bound=WriteItem)


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one call writes, and how; where to is known to its format."""

    data: Any
    """As it was given."""
    settings: Any
    """What the format knows of arrays: :class:`ArraySettings`."""
    mode: str
    """h5py's file mode."""
    overwrite: bool
    """Whether existing arrays may be replaced."""
    running: RunOptions
    """How jobs are run."""
    region: Any = None
    """The part that is written, of one array or of each."""
    append_dim: Any = None
    """The axis at whose end the data goes, of one array or of each."""
    compute: bool = True
    """Whether it is carried out at once."""
    joined: Callable[[str, Input, GrowableShape], tuple[Input, Any]] | None = None
    """Returns what all ranks of MPI give of an array, and the part of the target that it is."""

    @classmethod
    def of(cls, settings: type[ArraySettings], given: Mapping[str, Any]) -> "Call":
        """Return the call with the arguments of a function, none of them wrong for every target."""
        check_flags(overwrite=given["overwrite"])
        check_mode(given["mode"])
        names = ("resume", "digests", "progress", "compute", "scheduler", "lock_timeout")
        running = RunOptions.of(**{name: given[name] for name in names})
        own = {one.name: given[one.name] for one in fields(cls) if one.name in given}
        return cls(**own, settings=settings.of(given), running=running)

    @property
    def is_part(self) -> bool:
        """Whether parts of existing arrays are named."""
        return self.region is not None or self.append_dim is not None

    @property
    def is_several(self) -> bool:
        """Whether arrays are given by their keys."""
        return holds_several(self.data)

    def refuse_resume(self, where: str) -> None:
        """Refuse to go on where nothing is kept to go on by."""
        if self.running.resume:
            msg = f"resume=True: {where} there is no journal to resume from; write to a local path"
            raise OptionError(msg)

    def refuse_without_lock(self, where: str) -> None:
        """Refuse to go on, or to wait for others, where there is no hidden folder."""
        self.refuse_resume(where)
        if self.running.lock_timeout is not None:
            msg = (
                f"lock_timeout={self.running.lock_timeout!r}: {where} there is no lock that could "
                "be waited for; leave it out, or write to a local path"
            )
            raise OptionError(msg)

    @property
    def running_by_path(self) -> RunOptions:
        """How jobs are run whose target is named by its path."""
        return self.running.waiting(is_region=self.region is not None)

    def refuse_for_part(self, **others: Any) -> None:
        """Refuse what is said of whole arrays only."""
        given = {name: value for name, value in others.items() if value}
        if self.overwrite:
            given = {"overwrite": True}
        for name, value in given.items():
            kind = "datasets" if self.settings.format == "hdf5" else "arrays"
            msg = f"{name}={value!r} is for whole {kind}, and this is a part of one; leave it out"
            raise OptionError(msg)
        if self.group_attrs:
            called, groups = (
                self.settings.argument("attrs"),
                [f"/{one}" for one in self.group_attrs],
            )
            msg = (
                f"{called} has the groups {groups}: they get attributes together with new arrays; "
                "change those of an existing group with its .attrs"
            )
            raise OptionError(msg)

    @property
    def group_attrs(self) -> dict[str, Mapping[str, Any]]:
        """Attributes of groups that arrays lie in, by their paths below that of all."""
        if not self.is_several or not all(isinstance(key, str) for key in self.data):
            return {}
        called = self.settings.argument("attrs")
        return attributes_by_key(called, self.settings.attrs, list(self.data))[1]

    def group_attrs_below(self, prefix: str) -> dict[str, Mapping[str, Any]]:
        """Return attributes of groups by their whole paths."""
        return {f"{prefix}/{name}".strip("/"): one for name, one in self.group_attrs.items()}

    def inputs(
        self, prefix: str, named: Callable[[str], str]
    ) -> tuple[list[tuple[str, Input]], list[Any]]:
        """Return what goes under which key, and the settings of each."""
        found = items_of(self.data, prefix)
        refuse_for_streams([one for _, one in found], resume=self.running.resume)
        refusals, given = Refusals(len(found)), []
        for key, one in found:
            with refusals.of(None):
                given.append((named(key), one))
        refusals.check()
        refuse_clashes([key for key, _ in given])
        each = [self.settings]
        if self.is_several:
            each = settings_of_each(self.settings, list(self.data))
        pairs = zip(each, found, strict=True)
        return given, [with_fixed(settings, one) for settings, (_, one) in pairs]

    def new_items(
        self,
        prefix: str,
        named: Callable[[str], str],
        make: Callable[[str, Input, Any], Item],
    ) -> tuple[Item, ...]:
        """Return arrays that are to be made, each with its plan and settings."""
        return planned(make, *self.inputs(prefix, named))

    def region_items(
        self,
        inputs: tuple[list[tuple[str, Input]], list[Any]],
        arrays: Mapping[str, ExistingArray[Any]],
        *,
        is_open: bool,
        keeps_empty: bool | None = None,
        refusals: Refusals | None = None,
    ) -> tuple[RegionItem, ...]:
        """Return parts of existing arrays, each with its plan.

        ``refusals`` has what was wrong with arrays that are not among them.
        """
        places = [(self.region, self.append_dim)]
        if self.is_several:
            places = place_of_each(self.region, self.append_dim, list(self.data))
        rows = [
            (pair, settings, place)
            for pair, settings, place in zip(*inputs, places, strict=True)
            if pair[0] in arrays
        ]
        given, each = [pair for pair, _, _ in rows], [settings for _, settings, _ in rows]
        where = {pair[0]: place for pair, _, place in rows}

        def make(key: str, one: Input, settings: Any) -> RegionItem:
            array, (region, append_dim) = arrays[key], where[key]
            # First: if another thread moves the end in between, it is found to have moved.
            seen = array.room.shape
            if self.joined is not None:
                one, region = self.joined(key, one, array.room)
            arranged, window = plan_part(
                array, key, one, settings, region=region, append_dim=append_dim
            )
            return RegionItem(
                arranged=arranged,
                window=window,
                seen=seen,
                appends=append_dim is not None,
                unit=array.unit,
                kind=array.kind,
                array=array.handle if is_open else None,
                keeps_empty=keeps_empty,
            )

        def again(at: int) -> RegionItem:
            return planned(make, given, each)[at]

        items = planned(make, given, each, refusals)

        def can_be_moved(at: int) -> bool:
            return not given[at][1].is_bound

        if not (is_open and self.compute):
            return items
        return tuple(
            replace(item, again=partial(again, at)) if item.appends and can_be_moved(at) else item
            for at, item in enumerate(items)
        )
