"""Ratios and tables of timings that are made up."""

import pytest

from benchmarks.compare import Timing
from benchmarks.rows import ROWS
from benchmarks.table import behind, ratios, render


def timings(row: str = "hdf5:zstd-1", nbytes: int = 100, **seconds: list[float]) -> list[Timing]:
    return [
        Timing(array="x", row=ROWS[row], contender=name, seconds=runs, nbytes=nbytes)
        for name, runs in seconds.items()
    ]


def test_ratios_are_of_medians() -> None:
    row = timings(limit=[0.5, 9, 1.0], lazyio=[2.0, 1.0, 4.0], h5py=[6.0], dask=[1.0, 5.0])
    found = ratios(row)
    assert found["of_limit"] == pytest.approx(0.5)
    assert found["peers"] == pytest.approx({"h5py": 3.0, "dask": 1.5})
    assert found["best_peer"] == "dask"
    assert found["times_best_peer"] == pytest.approx(1.5)


def test_limit_is_no_peer() -> None:
    found = ratios(timings(limit=[0.1], lazyio=[1.0]))
    assert "best_peer" not in found
    assert behind([timings(limit=[0.1], lazyio=[1.0])]) == []


def test_without_lazyio_there_are_no_ratios() -> None:
    assert ratios(timings(limit=[1.0], h5py=[1.0])) == {}


def test_size_is_beside_the_stock_library() -> None:
    row = [*timings(nbytes=90, lazyio=[1.0]), *timings(nbytes=120, h5py=[1.0])]
    assert ratios(row)["size"] == pytest.approx(0.75)
    stock = timings("zarr:zstd", nbytes=100, zarr=[1.0], tensorstore=[1.0])
    assert ratios([*timings("zarr:zstd", nbytes=50, lazyio=[1.0]), *stock])["size"] == 0.5


def test_what_is_read_has_no_size() -> None:
    assert "size" not in ratios(timings("read-hdf5:lz4", lazyio=[1.0], h5py=[1.0]))


def test_behind_lists_every_peer_ahead_worst_row_first() -> None:
    near = timings("hdf5:none", lazyio=[1.0], h5py=[0.8], dask=[2.0])
    ahead = timings("hdf5:zstd-1", lazyio=[1.0], h5py=[1.0])
    far = timings("zarr:zstd", lazyio=[3.0], dask=[2.0], tensorstore=[1.0])
    assert behind([near, ahead, [], far]) == [
        "x zarr:zstd: tensorstore 3.00x, dask 1.50x",
        "x hdf5:none: h5py 1.25x",
    ]


def test_tables_are_by_array_format_and_direction() -> None:
    rows = [
        timings("hdf5:none", limit=[1.0], lazyio=[2.0], h5py=[1.0]),
        timings("read-hdf5:none", lazyio=[1.0], xarray=[3.0]),
        timings("hdf5:zstd-1", limit=[0.5], lazyio=[1.0]),
        [],
    ]
    assert render(rows) == (
        "`x`, writing HDF5:\n"
        "\n"
        "| Row    | limit | lazyio | h5py | of limit | x best peer |  size |\n"
        "| ------ | ----: | -----: | ---: | -------: | ----------: | ----: |\n"
        "| none   |  1.00 |   2.00 | 1.00 |     0.50 |   0.50 h5py | 1.000 |\n"
        "| zstd-1 | 0.500 |   1.00 |      |     0.50 |             |       |\n"
        "\n"
        "`x`, reading HDF5:\n"
        "\n"
        "| Row  | lazyio | xarray | x best peer |\n"
        "| ---- | -----: | -----: | ----------: |\n"
        "| none |   1.00 |   3.00 | 3.00 xarray |"
    )


def test_nothing_measured_is_no_table() -> None:
    assert render([[], []]) == ""
