"""What an NWB file is to hold: PyNWB's structure, and a plan for every array that lazyio writes."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from hdmf.build import GroupBuilder
from pynwb import NWBFile

from lazyio.errors import OptionError
from lazyio.inputs import Input
from lazyio.nwb.datasets import NwbDataset, datasets_in
from lazyio.nwb.structure import built, datasets_below, digest_of_structure, refuse_own_data
from lazyio.planning import Plans
from lazyio.planning.plan import Advice
from lazyio.writing.dataset_rules import rules_by_key
from lazyio.writing.multi_array import planned


class NwbFormat(Protocol):
    """How arrays of an NWB file are stored in one of its formats, as a call asks for it."""

    known: ClassVar[Sequence[str]]
    """What a rule may say."""
    reopened: ClassVar[str]
    """What opens a file, to add to it."""

    def takes(self, data: Any) -> bool:
        """Return whether data that lie in another file are copied, and not linked to."""

    def leaves(self, given: Input) -> bool:
        """Return whether an array is left to HDMF."""

    def settings_of(self, one: NwbDataset, rule: Mapping[str, Any]) -> Any:
        """Return how a dataset is stored: by its rule, its wrapper, or what holds for all."""

    def item(self, key: str, given: Input, settings: Any) -> Any:
        """Return an array with its plan."""

    def codecs_of(self, item: Any) -> str:
        """Return its codecs as a person reads them."""

    def rule_of(self, item: Any) -> dict[str, Any]:
        """Return what makes an array as it is planned."""

    def advice_on(self, items: Sequence[Any]) -> Advice:
        """Return hints that no plan has."""


class NwbPlan(Plans):
    """How each array of an NWB file would be stored, by its path; print it."""

    def __init__(self, contents: "Contents") -> None:
        items = {item.arranged.key: item for item in contents.items}
        self._rules = {key: contents.format.rule_of(item) for key, item in items.items()}
        columns = {
            "type": {key: contents.datasets[key].kind for key in items},
            "filters": {key: contents.format.codecs_of(item) for key, item in items.items()},
        }
        super().__init__({key: item.arranged.plan for key, item in items.items()}, columns)

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the table as rules, to be changed and given back, or kept as YAML.

        Examples
        --------
        >>> rules = plan.rules()  # doctest: +SKIP
        >>> rules["acquisition/es/data"]["compression"] = "zstd"  # doctest: +SKIP
        """
        return {key: dict(rule) for key, rule in self._rules.items()}


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What an NWB file is to hold."""

    format: NwbFormat
    nwbfile: NWBFile
    root: GroupBuilder
    """As PyNWB would write it."""
    datasets: Mapping[str, NwbDataset]
    """Those that lazyio writes."""
    items: tuple[Any, ...]
    """Their plans."""
    io_options: Mapping[str, Any]
    """For PyNWB."""

    @functools.cached_property
    def structure(self) -> str:
        """A digest of all that PyNWB writes; to write it may change the builders."""
        return digest_of_structure(self.root, self.datasets.values(), self.io_options)

    @property
    def others(self) -> Iterator[str]:
        """Paths of the datasets that PyNWB writes."""
        return (path for path in datasets_below(self.root) if path not in self.datasets)


def contents_of(
    nwbfile: NWBFile,
    manager: Any,
    source: str,
    form: NwbFormat,
    rules: Mapping[str, Mapping[str, Any]] | None,
    io_options: Mapping[str, Any],
    is_written: Any = lambda _: False,
    *,
    is_new: bool = False,
) -> Contents:
    """Return what is to be written, with a plan for every array."""
    if nwbfile.container_source not in (None, source):
        msg = (
            f"the NWBFile was read from {nwbfile.container_source}, and PyNWB does not write it "
            f"to {source}; to add to it give the {form.reopened} that has read it in mode 'r+', "
            "for a copy with other chunks call lazyio.repack, for one in the other format export"
        )
        raise OptionError(msg)
    root = built(nwbfile, manager, source)
    if is_new:
        refuse_own_data(root, source)
    all_of_it = datasets_in(root, manager, is_written, takes=form.takes, leaves=form.leaves)
    found = {one.key: one for one in all_of_it}
    small = [key for key, one in found.items() if one.is_small]
    named = rules_by_key(rules, list(found), form.known, only_by_name=small)
    taken = {key: one for key, one in found.items() if not one.is_small or key in named}
    settings = [form.settings_of(one, named.get(key, {})) for key, one in taken.items()]
    given = [(key, one.given) for key, one in taken.items()]
    return Contents(
        format=form,
        nwbfile=nwbfile,
        root=root,
        datasets=taken,
        items=planned(form.item, given, settings),
        io_options=io_options,
    )
