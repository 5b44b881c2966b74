"""Names of rows, who can do them, and what is chosen on the command line."""

from pathlib import Path

import pytest

from benchmarks.cases import LIMIT, OURS, Array
from benchmarks.catalogue import CATALOGUE, selection
from benchmarks.comparison import main
from benchmarks.field import contenders
from benchmarks.rows import ROWS, subset

ARRAY = Array(name="x", path="x", shape=(10, 10), dtype="<i2", chunks=(5, 5))


def test_names_are_unique_and_say_format_and_direction() -> None:
    assert all(row.name == name for name, row in ROWS.items())
    assert {name.split(":")[0] for name in ROWS} == {"hdf5", "zarr", "read-hdf5", "read-zarr"}


def test_subset_keeps_the_order_and_takes_each_once() -> None:
    assert subset("zarr:zstd, hdf5:none,zarr:zstd", ROWS) == ["zarr:zstd", "hdf5:none"]


def test_subset_takes_all_that_begin_so() -> None:
    found = subset("read-*", ROWS)
    assert found == [name for name in ROWS if name.startswith("read-")]
    assert len(found) > 5


@pytest.mark.parametrize("text", ["hdf5:nonesuch", "", "hdf5:none,", "nonesuch*"])
def test_subset_refuses_what_is_not_there(text: str) -> None:
    with pytest.raises(ValueError, match=r"is none of hdf5:none, hdf5:gzip-1"):
        subset(text, ROWS)


def test_command_line_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--arrays", "nonesuch"])
    assert "'nonesuch' is none of recording" in capsys.readouterr().err


def test_limit_and_lazyio_do_every_row_of_one_array() -> None:
    assert all({LIMIT, OURS} <= set(contenders(ARRAY, row)) for row in ROWS.values())


def test_graph_goes_only_to_who_takes_one() -> None:
    array = Array(**{**vars(ARRAY), "graph_blocks": (3, 3)})
    assert contenders(array, ROWS["hdf5:none"]) == ["limit", "lazyio", "dask"]
    assert contenders(array, ROWS["zarr:none"]) == ["limit", "lazyio", "dask", "zarrs-dask"]


def test_several_arrays_go_only_to_who_writes_them_in_one_pass() -> None:
    array = Array(**{**vars(ARRAY), "outputs": ("data", "inverted")})
    assert contenders(array, ROWS["hdf5:none"]) == ["lazyio", "h5py", "dask"]


def test_pytables_has_no_zstd_filter_of_its_own() -> None:
    assert "pytables" not in contenders(ARRAY, ROWS["hdf5:zstd-1"])
    assert "pytables" in contenders(ARRAY, ROWS["hdf5:blosc-zstd-1"])


def test_all_is_every_array_with_its_rows() -> None:
    found = selection(None, None, is_all=True)
    assert found == {name: entry.rows for name, entry in CATALOGUE.items()}
    assert all(row in ROWS for rows in found.values() for row in rows)


def test_default_is_a_part_of_all() -> None:
    default, whole = (selection(None, None, is_all=is_all) for is_all in (False, True))
    assert default.keys() < whole.keys()
    assert all(set(rows) <= set(whole[name]) for name, rows in default.items())


def test_rows_alone_are_those_that_an_array_is_measured_in() -> None:
    found = selection(None, ["hdf5:gzip-9", "hdf5:none"], is_all=True)
    assert found["recording"] == ("hdf5:gzip-9", "hdf5:none")
    assert found["noise"] == ("hdf5:none",)
    assert "spikes" not in found
    assert list(selection(None, ["hdf5:none"], is_all=False)) == ["recording", "cmip6"]


def test_array_that_is_asked_for_has_all_of_its_rows() -> None:
    assert selection(["noise"], None, is_all=False) == {"noise": CATALOGUE["noise"].rows}


def test_array_without_its_file_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("benchmarks.recording.CMIP6", tmp_path / "nonesuch.nc")
    assert CATALOGUE["cmip6"].make(tmp_path, False) is None
