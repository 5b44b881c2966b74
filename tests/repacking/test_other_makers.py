"""Files of other programs copied: real recordings, netCDF-4, NWB, PyTables."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5diff
import h5py
import numpy as np
import pynwb
import pytest
import xarray as xr
from hdf5_oracle import assert_copied
from hdmf.common import DynamicTable, VectorData

import lazyio
from lazyio.repacking import plan_repack

pytestmark = pytest.mark.usefixtures("in_this_process")
GZIP = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def repacked(src: Path, tmp_path: Path, **asked: Any) -> Path:
    """Return a copy that both judges find to be one."""
    dst = tmp_path / f"copy{src.suffix}"
    planned = plan_repack(src, **asked).datasets
    lazyio.repack(src, dst, **asked)
    assert_copied(src, dst, anew=frozenset(one.key for one in planned if one.changes))
    h5diff.assert_same(src, dst)
    return dst


@pytest.mark.parametrize(
    "name", ["3brain.brw", "detector_bitshuffle.h5", "maxwell_vendor_filter.h5"]
)
@pytest.mark.parametrize("asked", [{}, GZIP], ids=str)
def test_real_files(tmp_path: Path, shared_data: Path, name: str, asked: Any) -> None:
    repacked(shared_data / name, tmp_path, **asked)


def test_a_real_climate_model(tmp_path: Path, shared_data: Path) -> None:
    src = shared_data / "cmip6_tas.nc"
    rules = {"tas": {"chunks": (60, 72, 96), "compression": "zstd"}, "time": {"chunks": (100,)}}
    dst = repacked(src, tmp_path, rules=rules)
    some = {"time": slice(0, 780, 90)}
    with (
        xr.open_dataset(src, engine="netcdf4") as one,
        xr.open_dataset(dst, engine="h5netcdf") as other,
    ):
        xr.testing.assert_identical(one.isel(some), other.isel(some))
        assert other.tas.encoding["chunksizes"] == (60, 72, 96)


@pytest.mark.parametrize("asked", [{}, GZIP], ids=str)
def test_netcdf(tmp_path: Path, asked: Any) -> None:
    netcdf = pytest.importorskip("netCDF4")
    src = tmp_path / "src.nc"
    with netcdf.Dataset(src, "w") as file:
        file.title = "ü"
        file.createDimension("time", None)
        file.createDimension("x", 50)
        file.createDimension("alone", 3)
        time = file.createVariable("time", "f8", ("time",))
        time.units = "days since 2026-01-01"
        data = file.createVariable("data", "f4", ("time", "x"), zlib=True, fill_value=-1.0)
        data[:20] = np.arange(1000).reshape(20, 50)
        time[:] = np.arange(20)
        file.createVariable("names", str, ("alone",))[:] = np.array(["a", "b", "c"], object)
        group = file.createGroup("group")
        group.createDimension("y", 40)
        group.createVariable("y", "i4", ("y",))[:] = np.arange(40)
        group.createVariable("both", "i2", ("x", "y"))[:] = 7
        kind = group.createEnumType("u1", "kind", {"OFF": 0, "ON": 1})
        group.createVariable("state", kind, ("x",))[:] = 1
        ragged = group.createVLType("i4", "ragged")
        group.createVariable("rows", ragged, ("y",))[3] = np.arange(5, dtype="i4")
    dst = repacked(src, tmp_path, **asked)
    with netcdf.Dataset(dst, "a") as file:
        # The library knows it for its own, and extends it.
        assert file["data"].dimensions == ("time", "x")
        assert file["group/both"].dimensions == ("x", "y")
        file["data"][20] = 5
        file["group"].createVariable("more", "i4", ("x",))[:] = 1
    with netcdf.Dataset(dst) as file:
        assert file["data"].shape == (21, 50)
        assert file["group/rows"][3].tolist() == [0, 1, 2, 3, 4]
        assert str(file["names"][1]) == "b"


@pytest.mark.parametrize("asked", [{}, GZIP], ids=str)
def test_nwb(tmp_path: Path, recording: np.ndarray, asked: Any) -> None:
    src = tmp_path / "src.nwb"
    nwbfile = pynwb.NWBFile(
        session_description="a",
        identifier="b",
        session_start_time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    device = nwbfile.create_device(name="probe")
    group = nwbfile.create_electrode_group(
        name="shank", description="a", location="b", device=device
    )
    for n in range(64):
        nwbfile.add_electrode(group=group, location=f"{n}")
    electrodes = nwbfile.create_electrode_table_region(
        region=list(range(0, 64, 2)), description="some"
    )
    series = pynwb.ecephys.ElectricalSeries(
        name="es", data=recording[:, ::2], electrodes=electrodes, rate=1e3
    )
    nwbfile.add_acquisition(series)
    for n in range(5):
        nwbfile.add_unit(spike_times=np.arange(n * 3.0), electrodes=[n])
        nwbfile.add_trial(start_time=float(n), stop_time=n + 0.5, timeseries=[series])
    column = VectorData(name="text", description="b", data=["x", "yy"])
    nwbfile.add_scratch(DynamicTable(name="table", description="a", columns=[column]))
    with pynwb.NWBHDF5IO(src, "w") as io:
        io.write(nwbfile)
    dst = repacked(src, tmp_path, **asked)
    assert pynwb.validate(path=dst) in ([], ([], 0))
    with pynwb.NWBHDF5IO(dst, "r") as io:
        found = io.read()
        assert found.object_id == nwbfile.object_id
        assert (found.acquisition["es"].data[:] == recording[:, ::2]).all()
        assert found.acquisition["es"].electrodes[3].group.iloc[0].name == "shank"
        assert found.trials["timeseries"][2][0].timeseries is found.acquisition["es"]


@pytest.mark.parametrize("asked", [{}, GZIP], ids=str)
def test_pytables(tmp_path: Path, asked: Any) -> None:
    tables = pytest.importorskip("tables")
    src = tmp_path / "src.h5"
    with tables.open_file(str(src), "w", title="a title") as file:
        filters = tables.Filters(complevel=3, complib="blosc", shuffle=True)
        file.create_carray("/", "carray", obj=np.arange(30_000).reshape(300, 100), filters=filters)
        earray = file.create_earray("/", "earray", tables.Int16Atom(), (0, 10))
        earray.append(np.ones((500, 10), "i2"))
        rows = file.create_vlarray("/", "rows", tables.Int32Atom(), filters=filters)
        for n in range(50):
            rows.append(np.arange(n % 7))
        objects = file.create_vlarray("/", "objects", tables.ObjectAtom())
        objects.append({"a": 1})
        table = file.create_table(
            "/group",
            "table",
            {"x": tables.Float64Col(), "name": tables.StringCol(8)},
            createparents=True,
            filters=filters,
        )
        table.append([(n, f"{n}") for n in range(2000)])
        table.cols.x.create_index()
        file.root._v_attrs.some = {"pickled": 1}
        file.create_soft_link("/group", "soft", "/carray")
        file.create_external_link("/group", "external", "other.h5:/x")
    dst = repacked(src, tmp_path, **asked)
    with tables.open_file(str(dst), "a") as file:
        assert file.root.carray[299].tolist() == list(range(29_900, 30_000))
        assert file.root.rows[6].tolist() == [0, 1, 2, 3, 4, 5]
        assert file.root.objects[0] == {"a": 1}
        assert file.root._v_attrs.some == {"pickled": 1}
        assert [row["name"] for row in file.root.group.table.where("x == 7")] == [b"7"]
        file.root.earray.append(np.zeros((1, 10), "i2"))
        assert file.root.earray.shape == (501, 10)


def test_the_copy_of_what_lazyio_wrote_has_digests_of_its_own(tmp_path: Path) -> None:
    src, dst = tmp_path / "src.h5", tmp_path / "dst.h5"
    x = np.arange(400_000).reshape(4000, 100)
    lazyio.to_hdf5(x, src, "g/x", chunks=(64, 100), maxshape=(None, 100), compression="gzip")
    lazyio.repack(src, dst)
    assert lazyio.verify(dst).status == "ok"
    # The rim has its digest, too: what grows is told from what is damaged.
    with h5py.File(dst, "a") as file:
        file["g/x"].resize((4010, 100))
        file["g/x"][4000:] = 5
    assert lazyio.verify(dst).status == "modified"
    with h5py.File(src) as one, h5py.File(dst) as other:
        assert set(one["_lazyio"]) == set(other["_lazyio"])
