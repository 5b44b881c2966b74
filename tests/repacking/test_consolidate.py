"""A file copied together with what its links and virtual datasets lead to."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import h5diff
import h5py
import numpy as np
import pytest
from hdf5_files import trees, write_something_of_everything, write_tree
from hdf5_oracle import assert_copied, everything_in
from hypothesis import HealthCheck, given, settings

import lazyio
from lazyio.errors import SourceError, TargetError, UnsafeFileError

pytestmark = pytest.mark.usefixtures("in_this_process")


def payloads(dataset: h5py.Dataset) -> dict[Any, Any]:
    """Return the stored chunks of a dataset."""
    corners = [
        dataset.id.get_chunk_info(n).chunk_offset for n in range(dataset.id.get_num_chunks())
    ]
    return {corner: dataset.id.read_direct_chunk(corner) for corner in corners}


def write_days(folder: Path, n_days: int = 3, **options: Any) -> np.ndarray:
    """Write days of a recording, and return all of it."""
    whole = np.arange(n_days * 400 * 30, dtype="i4").reshape(-1, 30)
    for day in range(n_days):
        with h5py.File(folder / f"day{day}.h5", "w") as file:
            part = whole[day * 400 : (day + 1) * 400]
            made = file.create_dataset("g/x", data=part, **options)
            made.attrs["day"] = day
            file["g"].attrs["ref"] = made.ref
            file["g/soft"] = h5py.SoftLink("/g/x")
    return whole


def test_external_links_become_what_they_lead_to(tmp_path: Path) -> None:
    whole = write_days(tmp_path, chunks=(64, 10), compression="gzip")
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    with h5py.File(src, "w", track_order=True) as file:
        for day in (2, 0, 1):
            file[f"day{day}"] = h5py.ExternalLink(f"day{day}.h5", "/g")
        file["once_more"] = h5py.ExternalLink("day1.h5", "/g/x")
        file["soft"] = h5py.SoftLink("/day1/x")
        file["broken"] = h5py.ExternalLink("nowhere.h5", "/x")
    report = lazyio.consolidate(src, dst)
    assert "'broken' leads to nowhere.h5 /x" in dict(report.advice)["links-broken"]
    for path in tmp_path.glob("day*.h5"):
        path.unlink()
    with h5py.File(dst) as file:
        names = [name for name in file if name != "_lazyio"]
        assert names == ["day2", "day0", "day1", "once_more", "soft", "broken"]
        assert (file["day1/x"][:] == whole[400:800]).all()
        assert file["day1/x"].chunks == (64, 10)
        assert file["day1/x"] == file["once_more"] == file["soft"] == file["day1/soft"]
        assert file["day2/x"].attrs["day"] == 2
        assert file[file["day0"].attrs["ref"]] == file["day0/x"]
        assert isinstance(file.get("broken", getlink=True), h5py.ExternalLink)
    assert [key for key, *_ in lazyio.verify(dst).damaged] == ["/broken"]


def test_it_is_equal_to_h5copy(tmp_path: Path) -> None:
    if shutil.which("h5copy") is None:
        pytest.skip("h5copy is not installed")
    write_days(tmp_path, chunks=(64, 10), compression="gzip")
    src = tmp_path / "src.h5"
    with h5py.File(src, "w") as file:
        file["top/day0"] = h5py.ExternalLink("day0.h5", "/g/x")
        file["top/day1"] = h5py.ExternalLink("day1.h5", "/g/x")
        file["top/own"] = np.arange(5)
    command = ["h5copy", "-i", src, "-o", tmp_path / "theirs.h5", "-s", "/top", "-d", "/top"]
    subprocess.run([*command, "-f", "ext"], check=True)
    lazyio.consolidate(src, tmp_path / "ours.h5")
    h5diff.assert_same(tmp_path / "theirs.h5", tmp_path / "ours.h5")


def virtual(path: Path, parts: list[tuple[Any, str, Any]], shape: Any, **options: Any) -> None:
    """Write a virtual dataset of parts of the days."""
    layout = h5py.VirtualLayout(shape, "i4")
    for here, name, there in parts:
        source = h5py.VirtualSource(name, "g/x", (400, 30), "i4")
        layout[here] = source if there is None else source[there]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout, **options)
        file["x"].attrs["unit"] = "V"


S = np.s_
WHOLE = [(S[day * 400 : (day + 1) * 400], f"day{day}.h5", None) for day in range(3)]
CASES = {
    "in rows": (WHOLE, (1200, 30), {"chunks": (50, 10)}, True),
    "gzip": (WHOLE, (1200, 30), {"chunks": (50, 10), "compression": "gzip"}, True),
    "sparse": (WHOLE[:1] + WHOLE[2:], (1200, 30), {"chunks": (50, 10), "compression": 4}, True),
    "cut at the end": (WHOLE[:1], (400, 30), {"chunks": (64, 7), "compression": "gzip"}, True),
    "cut in between": (WHOLE, (1200, 30), {"chunks": (64, 30), "compression": "gzip"}, False),
    "parts": (
        [(S[:100], "day0.h5", S[100:200]), (S[100:200], "day1.h5", S[:100])],
        (200, 30),
        {"chunks": (50, 10)},
        True,
    ),
    "part of the end": ([(S[:390], "day0.h5", S[:390])], (390, 30), {"chunks": (50, 10)}, False),
    "shifted": ([(S[:50], "day0.h5", S[25:75])], (50, 30), {"chunks": (50, 10)}, False),
    "strided": ([(S[:100], "day0.h5", S[::4])], (100, 30), {"chunks": (50, 10)}, False),
    "overlap": (
        [(S[:50], "day0.h5", S[:50]), (S[:50], "day1.h5", S[:50])],
        (50, 30),
        {"chunks": (50, 10)},
        False,
    ),
    "contiguous": (WHOLE, (1200, 30), {}, False),
}


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_virtual_datasets_become_real(tmp_path: Path, case: str, resume: bool) -> None:
    parts, shape, options, is_passed = CASES[case]
    write_days(tmp_path, **options)
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    virtual(src, parts, shape, fillvalue=7)
    with h5py.File(src) as file:
        expected = file["x"][:]
    report = lazyio.consolidate(src, dst, resume=resume)
    assert ("undecoded" in report.engine) == is_passed
    for path in tmp_path.glob("day*.h5"):
        path.rename(path.with_suffix(".away"))
    with h5py.File(dst) as file:
        assert (file["x"][:] == expected).all()
        assert file["x"].chunks == options.get("chunks")
        assert file["x"].compression == ("gzip" if "compression" in options else None)
        assert file["x"].fillvalue == 7
        assert file["x"].attrs["unit"] == "V"
        if case == "gzip":
            with h5py.File(tmp_path / "day1.away") as day:
                theirs = payloads(day["g/x"])
            ours = payloads(file["x"])
            assert all(ours[at + 400, left] == one for (at, left), one in theirs.items())
    assert lazyio.verify(dst).status == "ok"


def test_external_storage_becomes_the_files_own(tmp_path: Path) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    np.arange(300_000, dtype="i4").tofile(tmp_path / "raw.bin")
    with h5py.File(src, "w") as file:
        file.create_dataset("x", (300_000,), "i4", external=[("raw.bin", 0, 1_200_000)])
    lazyio.consolidate(src, dst)
    (tmp_path / "raw.bin").unlink()
    with h5py.File(dst) as file:
        assert not file["x"].external
        assert (file["x"][:] == np.arange(300_000)).all()


@pytest.mark.parametrize("kind", ["link", "virtual", "raw"])
def test_what_lies_outside_is_refused_unless_allowed(tmp_path: Path, kind: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    inside.mkdir()
    write_days(outside, 1)
    np.arange(50, dtype="i4").tofile(outside / "raw.bin")
    src, dst = inside / "src.h5", inside / "dst.h5"
    if kind == "virtual":
        virtual(src, [(S[:400], str(outside / "day0.h5"), S[:])], (400, 30))
    else:
        with h5py.File(src, "w") as file:
            if kind == "link":
                file["x"] = h5py.ExternalLink(str(outside / "day0.h5"), "/g/x")
            else:
                raw = str(outside / "raw.bin")
                file.create_dataset("x", (50,), "i4", external=[(raw, 0, 200)])
    with pytest.raises(UnsafeFileError, match="outside the file's folder"):
        lazyio.consolidate(src, dst)
    assert not dst.exists()
    lazyio.consolidate(src, dst, allow_external=[outside])
    with h5py.File(dst) as file:
        assert file["x"].size
        assert not file["x"].is_virtual
        assert not file["x"].external


def test_a_source_that_is_missing_is_no_fill_value(tmp_path: Path) -> None:
    write_days(tmp_path)
    virtual(tmp_path / "src.h5", WHOLE, (1200, 30))
    (tmp_path / "day1.h5").unlink()
    with pytest.raises(SourceError, match="which is not there"):
        lazyio.consolidate(tmp_path / "src.h5", tmp_path / "dst.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["day0.h5", "day2.h5", "src.h5"]


def test_a_file_that_is_copied_is_no_target(tmp_path: Path) -> None:
    write_days(tmp_path)
    virtual(tmp_path / "src.h5", WHOLE, (1200, 30))
    for name in ("src.h5", "day1.h5"):
        with pytest.raises(TargetError, match="is copied itself"):
            lazyio.consolidate(tmp_path / "src.h5", tmp_path / name, mode="w")


def test_links_round_in_circles_end(tmp_path: Path) -> None:
    for name, other in (("a.h5", "b.h5"), ("b.h5", "a.h5")):
        with h5py.File(tmp_path / name, "w") as file:
            file["x"] = name
            file["other"] = h5py.ExternalLink(other, "/")
            file["far"] = h5py.ExternalLink(other, "/other/x")
    lazyio.consolidate(tmp_path / "a.h5", tmp_path / "dst.h5")
    with h5py.File(tmp_path / "dst.h5") as file:
        assert file["other/x"].asstr()[()] == "b.h5"
        assert file["other/other"] == file["/"]
        assert file["far"] == file["x"]


def test_what_has_no_links_is_copied_as_it_is(tmp_path: Path) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    write_something_of_everything(src)
    lazyio.consolidate(src, dst)
    with h5py.File(dst) as file:
        assert file["arrays/raw"][:].tolist() == list(range(50))
        assert file["arrays/virtual"].is_virtual
    assert_copied(src, dst, anew=frozenset(["arrays/raw"]), except_for=("/arrays/raw", "elements"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=trees())
def test_trees_behind_a_link(tmp_path: Path, steps: Any) -> None:
    """What lies behind a link to a whole file is a copy of it."""
    src, other, dst = (tmp_path / name for name in ("src.h5", "other.h5", "dst.h5"))
    write_tree(other, steps)
    with h5py.File(src, "w") as file:
        file["top"] = h5py.ExternalLink("other.h5", "/")
    lazyio.consolidate(src, dst, mode="w")
    there, here = everything_in(other), everything_in(dst)
    for name, facts in there.items():
        if isinstance(facts, dict) and name != "/":
            found = here["/top" + name]
            same = ("shape", "maxshape", "fill defined", "names", "order", "chunks", "stored")
            assert [facts.get(one) for one in same] == [found.get(one) for one in same], name
            assert _moved(facts.get("elements")) == found.get("elements"), name


def _moved(elements: Any) -> Any:
    """Return elements with paths as they are behind the link."""
    if isinstance(elements, dict):
        return {name: _moved(one) for name, one in elements.items()}
    if isinstance(elements, list):
        return [_moved(one) for one in elements]
    if isinstance(elements, tuple) and elements and isinstance(elements[0], str):
        return (_moved(elements[0]), *elements[1:])
    if isinstance(elements, str) and elements.startswith("/"):
        return "/top" if elements == "/" else f"/top{elements}"
    return elements
