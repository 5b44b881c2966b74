"""Rules per dataset: which hold for which, and how a table of them comes back."""

from pathlib import Path

import h5py
import numpy as np
import pytest

import lazyio
from lazyio.errors import UnknownNameError
from lazyio.repacking import plan_repack
from lazyio.writing.dataset_rules import OF_ANY_DATASET, rules_by_key


def test_the_last_rule_that_names_a_dataset_holds() -> None:
    rules = {
        "*": {"compression": "gzip", "shuffle": True},
        "/a/*": {"compression": "zstd", "chunks": [2, 3]},
        "a/x[1]": {"access": [[5, 1], [[1, 5], 2]]},
    }
    found = rules_by_key(rules, ["a/x[1]", "a/x1", "b"], OF_ANY_DATASET)
    assert found["b"] == {"compression": "gzip", "shuffle": True}
    assert found["a/x1"] == {"compression": "zstd", "shuffle": True, "chunks": (2, 3)}
    # A path is meant as it is before it is a pattern.
    assert found["a/x[1]"]["access"] == [(5, 1), ((1, 5), 2)]
    with pytest.raises(UnknownNameError, match="names no array; those of the file are"):
        rules_by_key({"c*": {}}, ["a"], OF_ANY_DATASET)


@pytest.fixture
def src(tmp_path: Path) -> Path:
    path = tmp_path / "src.h5"
    with h5py.File(path, "w") as file:
        x = np.arange(60_000, dtype="i4").reshape(600, 100)
        file.create_dataset("all", data=x, chunks=(50, 50), compression="lzf", shuffle=True)
        file["all"].attrs["a"] = 1
        file.create_dataset("checked", data=x, chunks=(50, 50), compression=4, fletcher32=True)
        file.create_dataset("plain", data=x)
        file.create_dataset("row", data=x[0], chunks=(50,))
        file.create_dataset("small", data=x[0, :9])
    return path


@pytest.mark.parametrize(
    ("rule", "key", "expected"),
    [
        ({"compression": "gzip"}, "all", ["shuffle", "gzip"]),
        ({"compression": None}, "all", []),
        ({"shuffle": False}, "all", ["lzf"]),
        ({"fletcher32": True}, "all", ["shuffle", "lzf", "fletcher32"]),
        ({"compression": "blosc"}, "all", ["blosc"]),
        ({"compression": "blosc", "shuffle": True}, "all", ["shuffle", "blosc"]),
        ({"chunks": (100, 10)}, "all", ["shuffle", "lzf"]),
        ({"compression_opts": 1}, "checked", ["gzip", "fletcher32"]),
        ({"compression": "zstd", "compression_opts": 5}, "checked", ["zstd", "fletcher32"]),
        ({"compression": "zstd"}, "plain", ["zstd"]),
    ],
)
def test_what_a_rule_leaves_out_stays(src: Path, rule: dict, key: str, expected: list) -> None:
    planned = {one.key: one for one in plan_repack(src, rules={key: rule}).datasets}
    assert [step.name for step in planned[key].final_filters] == expected
    assert [one.key for one in planned.values() if one.changes] == [key]
    lazyio.repack(src, src.with_name("dst.h5"), rules={key: rule})
    with h5py.File(src) as one, h5py.File(src.with_name("dst.h5")) as other:
        assert (one[key][:] == other[key][:]).all()


def test_what_is_said_of_all_suits_those_of_its_rank(src: Path) -> None:
    planned = {one.key: one for one in plan_repack(src, chunks=(60, 20)).datasets}
    assert [key for key, one in planned.items() if one.changes] == ["all", "checked", "plain"]
    planned = {one.key: one for one in plan_repack(src, compression="gzip").datasets}
    assert [key for key, one in planned.items() if one.changes] == ["all", "plain", "row"]
    assert "as it is" in planned["small"].row()[-1]


def test_a_table_comes_back_as_rules(src: Path) -> None:
    plan = plan_repack(src, compression="zstd", access=[(600, 1), (1, 100)])
    again = plan_repack(src, rules=plan.rules())
    assert str(again) == str(plan)
    assert set(plan.rules()) == {"all", "checked", "plain", "row"}
    assert plan["all"].shape == (600, 100)
    assert "all" in plan
    assert len(plan) == 4


def test_what_is_there_already_is_passed_through(src: Path) -> None:
    planned = plan_repack(
        src, rules={"all": {"compression": "lzf", "shuffle": True, "chunks": (50, 50)}}
    ).datasets
    assert not any(one.changes for one in planned)
