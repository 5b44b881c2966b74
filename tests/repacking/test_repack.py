"""A whole file copied, datasets to other chunks and codecs, everything else as it is."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import trees, write_something_of_everything, write_tree
from hdf5_oracle import assert_copied
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.atomic.hdf5_digests import ObjectNames
from lazyio.codecs.hdf5_chunks import filters_of
from lazyio.errors import OptionError, PlanError
from lazyio.repacking import plan_repack

pytestmark = pytest.mark.usefixtures("in_this_process")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"track_order": True},
        {"userblock_size": 1024},
        {"libver": "v108"},
        {"libver": ("v110", "v114"), "track_order": True},
        {"fs_strategy": "page", "fs_page_size": 4096},
        {"fs_strategy": "fsm", "fs_persist": True},
    ],
    ids=str,
)
def test_everything_is_copied(tmp_path: Path, options: dict[str, Any]) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_something_of_everything(src, **options)
    if "userblock_size" in options:
        with src.open("r+b") as raw:
            raw.write(b"what comes before")
    before = src.read_bytes()
    lazyio.repack(src, dst, resume=bool(options))
    assert_copied(src, dst)
    assert src.read_bytes() == before
    # Links that lead to nothing do so in the copy, too; nothing else is wrong.
    found = lazyio.verify(dst)
    assert {key for key, *_ in found.damaged} == {
        link.key for link in found.links if link.is_broken
    }
    assert {link.key for link in found.links if link.is_broken} == {
        "/links/broken",
        "/links/external",
        "/links/ünï",
    }


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize(
    "asked",
    [
        {"compression": "gzip", "compression_opts": 4, "shuffle": True},
        {"compression": "zstd", "rules": {"arrays/zip": {"chunks": [100, 100]}}},
        {"chunks": (50, 50), "compression": None},
        {"access": [(1, 100), (400, 1)]},
        {"rules": {"*": {"fletcher32": True}, "arrays/large": {"compression": "lzf"}}},
    ],
    ids=str,
)
def test_datasets_are_stored_anew(tmp_path: Path, asked: dict[str, Any], resume: bool) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_something_of_everything(src)
    planned = {one.key: one for one in plan_repack(src, **asked).datasets}
    lazyio.repack(src, dst, resume=resume, **asked)
    anew = frozenset(key for key, one in planned.items() if one.changes)
    assert_copied(src, dst, anew=anew)
    assert len(anew) > 2
    with h5py.File(dst) as file:
        for key in anew:
            assert file[key].chunks == planned[key].final_chunks
            found = [step.filter_id for step in filters_of(file[key])]
            assert found == [step.filter_id for step in planned[key].final_filters]
    again = lazyio.repack(src, dst, resume=True, mode="w", **asked) if resume else None
    assert again is None or again.n_resumed == again.n_blocks > 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=trees(),
    tracks=st.booleans(),
    asked=st.sampled_from([{}, {"compression": "gzip"}, {"chunks": (2, 2), "compression": None}]),
)
def test_trees_are_copied(tmp_path: Path, steps: Any, tracks: bool, asked: Any) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_tree(src, steps, track_order=tracks)
    planned = plan_repack(src, **asked).datasets
    lazyio.repack(src, dst, mode="w", **asked)
    assert_copied(src, dst, anew=frozenset(one.key for one in planned if one.changes))
    assert lazyio.verify(dst).status in ("ok", "unverifiable")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=trees(), tracks=st.booleans())
def test_names_of_objects_are_those_of_libhdf5(tmp_path: Path, steps: Any, tracks: bool) -> None:
    write_tree(tmp_path / "src.h5", steps, track_order=tracks)
    with h5py.File(tmp_path / "src.h5") as file:
        one_by_one, many = (ObjectNames(file, many=many) for many in (False, True))
        references = [file["/"].ref]
        file.visititems(lambda _, item: references.append(item.ref))
        for reference in references:
            assert many.of(reference) == one_by_one.of(reference)


def test_advice_on_several_datasets_names_them(tmp_path: Path) -> None:
    src = tmp_path / "src.h5"
    with h5py.File(src, "w") as file:
        for name in "abcd":
            file.create_dataset(name, data=np.arange(3), chunks=(100,), maxshape=(None,))
        file["fine"] = np.arange(50_000)
    report = lazyio.repack(src, tmp_path / "dst.h5", compression="gzip")
    told = "a, b, c, d: 97% of the stored chunks is padding"
    assert report.advice == (("padded-chunks", told),)
    with h5py.File(src, "r+") as file:
        for name in "bcd":
            del file[name]
        del file["fine"]
    report = lazyio.repack(src, tmp_path / "one.h5", compression="gzip")
    assert report.advice == (("padded-chunks", "97% of the stored chunks is padding"),)


def test_references_to_nothing_are_empty(tmp_path: Path) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    with h5py.File(src, "w") as file:
        refs = file.create_dataset("refs", (2,), h5py.ref_dtype)
        refs[0], refs[1] = file.create_group("gone").ref, file.create_group("kept").ref
        file.create_dataset("behind", data=np.ones(10))
        del file["gone"]
    report = lazyio.repack(src, dst)
    assert "1 references lead to nothing" in dict(report.advice)["references-dangling"]
    with h5py.File(dst) as file:
        assert not file["refs"][0]
        assert file[file["refs"][1]].name == "/kept"


def test_a_sparse_dataset_stays_sparse(tmp_path: Path) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    with h5py.File(src, "w") as file:
        made = file.create_dataset("x", (10**6, 10**6), "i2", chunks=(1000, 1000), fillvalue=3)
        made[5, 5] = made[500_000, 700_000] = 1
    lazyio.repack(src, dst, compression="gzip", chunks=(500, 1000))
    with h5py.File(dst) as file:
        assert file["x"].id.get_num_chunks() == 4
        assert file["x"][5, 4:7].tolist() == [3, 1, 3]
        assert file["x"][500_000, 700_000] == 1
    assert lazyio.verify(dst).status == "ok"


def test_a_large_attribute(tmp_path: Path) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    with h5py.File(src, "w", libver="v108") as file:
        file.attrs["large"] = np.arange(100_000)
    lazyio.repack(src, dst)
    assert_copied(src, dst)


def test_links_that_lead_elsewhere_from_another_folder_are_told(tmp_path: Path) -> None:
    src, other = tmp_path / "src.h5", tmp_path / "other"
    other.mkdir()
    write_something_of_everything(src)
    assert "links-moved" not in dict(lazyio.repack(src, tmp_path / "dst.h5").advice)
    told = dict(lazyio.repack(src, other / "dst.h5").advice)["links-moved"]
    assert "2 links or datasets" in told
    assert "/links/external" in told
    assert "/arrays/raw" in told


def test_a_damaged_chunk_is_copied_as_it_is(tmp_path: Path) -> None:
    """What is passed through is not decoded; what is stored anew is, and refused."""
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    with h5py.File(src, "w") as file:
        x = np.random.default_rng(0).random((400, 400))
        file.create_dataset("x", data=x, chunks=(100, 100), compression="gzip", shuffle=True)
        place = file["x"].id.get_chunk_info(3)
    with src.open("r+b") as raw:
        raw.seek(place.byte_offset + 1000)
        raw.write(b"damage")
    lazyio.repack(src, dst)
    with h5py.File(src) as one, h5py.File(dst) as other:
        for n in range(16):
            corner = one["x"].id.get_chunk_info(n).chunk_offset
            found = [file["x"].id.read_direct_chunk(corner) for file in (one, other)]
            assert found[0] == found[1]
    with pytest.raises(lazyio.LazyioError, match=r"block .* of 'x'|is damaged"):
        lazyio.repack(src, tmp_path / "anew.h5", compression="lzf")
    assert not (tmp_path / "anew.h5").exists()


def test_a_source_that_changes_is_not_published(tmp_path: Path) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_something_of_everything(src)

    def change(_: Any) -> None:
        with src.open("r+b") as raw:
            raw.seek(0, 2)
            raw.write(b"more")

    with pytest.raises(lazyio.errors.SourceChangedError, match=r"src.h5 has grown"):
        lazyio.repack(src, dst, progress=change)
    assert not dst.exists()


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"mode": "a"}, OptionError, "a copy is a new file"),
        ({"rules": [1]}, OptionError, "give a dict from patterns"),
        ({"rules": {"*": {"dtype": "i4"}}}, OptionError, "says .*dtype"),
        ({"rules": {"nothing": {}}}, OptionError, "names no array"),
        ({"rules": {"first/refs": {"chunks": (2,)}}}, OptionError, "it holds references"),
        ({"rules": {"arrays/rows": {"chunks": (2,)}}}, OptionError, "differ in length"),
        ({"rules": {"arrays/virtual": {"chunks": (2, 2)}}}, OptionError, "lazyio.consolidate"),
        ({"rules": {"types/bits": {"chunks": (2,)}}}, OptionError, "numpy lacks its type"),
        ({"memory_limit": "1 kB"}, PlanError, "smallest limit"),
        ({"workers": 0}, OptionError, "workers=0"),
        ({"resume": "yes"}, OptionError, "resume='yes'"),
        ({"compression": "gzipp"}, OptionError, "not a codec"),
    ],
)
def test_wrong_input(tmp_path: Path, asked: Any, error: Any, message: str) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_something_of_everything(src)
    with pytest.raises(error, match=message):
        lazyio.repack(src, dst, **asked)
    assert not dst.exists()


def test_a_file_that_is_open_for_writing_is_refused(tmp_path: Path) -> None:
    src = tmp_path / "src.h5"
    with h5py.File(src, "w") as file:
        file["x"] = 1
        with pytest.raises(lazyio.LazyioError, match=r"open for writing|was modified"):
            lazyio.repack(src, tmp_path / "dst.h5")
    lazyio.repack(src, tmp_path / "dst.h5")
    with pytest.raises(lazyio.errors.TargetExistsError, match="already exists"):
        lazyio.repack(src, tmp_path / "dst.h5")
    hard = tmp_path / "hard.h5"
    hard.hardlink_to(src)
    with pytest.raises(lazyio.errors.TargetError, match="is copied itself"):
        lazyio.repack(src, hard, mode="w")


@pytest.mark.parametrize("resume", [False, True])
def test_chunks_that_are_allocated_early(tmp_path: Path, resume: bool) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    with h5py.File(src, "w") as file:
        for name, codec in (("plain", None), ("gzip", 1)):
            properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            properties.set_chunk((100, 100))
            properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            if codec is not None:
                properties.set_deflate(codec)
            space = h5py.h5s.create_simple((1000, 1000))
            kind = h5py.h5t.STD_I32LE
            made = h5py.Dataset(h5py.h5d.create(file.id, name.encode(), kind, space, properties))
            made[:900] = np.arange(900_000).reshape(900, 1000)
    lazyio.repack(src, dst, resume=resume)
    assert_copied(src, dst)
    assert lazyio.verify(dst).status == "ok"


def test_no_space_is_found_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_something_of_everything(src)
    facts = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: facts._replace(free=10_000))
    with pytest.raises(lazyio.errors.TargetError, match=r"space|room|free"):
        lazyio.repack(src, dst)
    assert not dst.exists()
