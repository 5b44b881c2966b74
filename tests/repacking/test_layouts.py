"""Random datasets of every type, layout, index, filter and format, copied."""

import random
from pathlib import Path
from typing import Any

import pytest
from hdf5_oracle import assert_copied

import lazyio
from benchmarks.layouts.datasets import make
from lazyio.errors import OptionError
from lazyio.repacking import plan_repack

pytestmark = pytest.mark.usefixtures("in_this_process")

ASKED: list[dict[str, Any]] = [
    {"compression": "gzip", "shuffle": True},
    {"compression": None, "chunks": None},
    {"rules": {"*": {"compression": "zstd", "fletcher32": True}}},
    {"rules": {"*": {"chunks": "auto"}}},
]


@pytest.mark.parametrize("seeds", [range(20), range(20, 40), range(40, 60)], ids=str)
@pytest.mark.filterwarnings("ignore")
def test_datasets_of_every_kind(
    tmp_path: Path, seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    n_copied = 0
    for seed in seeds:
        rng = random.Random(seed)
        try:
            made = make(src, rng)
        except (ValueError, RuntimeError, OSError, TypeError, KeyError):
            continue  # libhdf5 does not take what was drawn together.
        lazyio.repack(src, dst, mode="w", resume=rng.random() < 0.3)
        assert_copied(src, dst)
        assert lazyio.verify(dst).status != "damaged", made.text
        if not made.is_external:
            lazyio.consolidate(src, dst, mode="w")
            assert_copied(src, dst, layouts=False)
        try:
            asked = rng.choice(ASKED)
            planned = plan_repack(src, **asked).datasets
        except OptionError:
            continue  # Such as filters without chunks.
        lazyio.repack(src, dst, mode="w", **asked)
        assert_copied(src, dst, anew=frozenset(one.key for one in planned if one.changes))
        n_copied += 1
    assert n_copied > len(seeds) / 2
