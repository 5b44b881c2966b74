"""The command line: what is printed, what is written, and the exit status."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - lets h5py read zstd and blosc
import numpy as np
import pytest
import zarr

from lazyio import cli
from lazyio.info import info_of

ROOT = Path(__file__).parents[1]
RECORDING = ROOT / "examples" / "3brain.brw"


@pytest.fixture
def npy(tmp_path, recording, monkeypatch) -> Path:
    """Return an .npy file in the current folder."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", recording)
    return Path("x.npy")


def run(capsys, *arguments) -> tuple[int, str, str]:
    """Run a command in this process; return status, stdout, stderr."""
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_plan_prints_the_table_and_writes_nothing(npy, capsys) -> None:
    """What is on disk, in memory, how many tasks, how often the source is read, and why."""
    status, out, err = run(capsys, "plan", npy, "--memory-limit", "100 kB", "--chunks", "100,-1")
    assert (status, err) == (0, "")
    for name in ("on disk", "in memory", "tasks", "source", "why"):
        assert re.search(rf"^{name} ", out, re.MULTILINE)
    assert "(100, 64)" in out
    assert os.listdir() == ["x.npy"]


def test_convert_to_hdf5(npy, recording, capsys) -> None:
    """Compressed by default, under the key that was given; the report is two lines."""
    status, out, err = run(capsys, "convert", npy, "x.h5", "--key", "a/b", "--memory-limit", "1 MB")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 2
    with h5py.File("x.h5") as file:
        assert (file["a/b"][:] == recording).all()
        assert (file["a/b"].compression, file["a/b"].shuffle) == ("gzip", True)


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd", "blosc", "lzf"])
def test_convert_codecs(npy, recording, capsys, codec) -> None:
    """Each codec by its name."""
    status, _, err = run(
        capsys, "convert", npy, "x.h5", "--compression", codec, "--chunks", "50,64"
    )
    assert (status, err) == (0, "")
    with h5py.File("x.h5") as file:
        assert (file["data"][:] == recording).all()
        assert file["data"].chunks == (50, 64)


@pytest.mark.parametrize("codec", [None, "none", "gzip", "zstd", "blosc"])
def test_convert_to_zarr(npy, recording, capsys, codec) -> None:
    """A suffix of .zarr makes a store; a key makes an array in it."""
    options = ["--compression", codec] if codec else []
    options += ["--level", "1"] if codec not in (None, "none") else []
    assert run(capsys, "convert", npy, "x.zarr", *options)[0] == 0
    assert run(capsys, "convert", npy, "store.zarr", "--key", "deep/x", *options)[0] == 0
    assert (zarr.open_array("x.zarr", mode="r")[:] == recording).all()
    assert (zarr.open_array("store.zarr", path="deep/x", mode="r")[:] == recording).all()


def test_convert_from_a_key(capsys, tmp_path) -> None:
    """``path::key`` names a dataset, which keeps its name."""
    target = tmp_path / "x.h5"
    assert run(capsys, "convert", f"{RECORDING}::3BData/Raw", target)[0] == 0
    with h5py.File(RECORDING) as a, h5py.File(target) as b:
        assert (a["3BData/Raw"][:] == b["3BData/Raw"][:]).all()


@pytest.mark.parametrize("command", ["plan", "convert"])
def test_several_arrays_and_no_key(capsys, tmp_path, command) -> None:
    """How a key is given is told, for ``--key`` is that of the target."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["x"], file["y"] = np.ones(3), np.ones(3)
    targets = [tmp_path / "b.h5"] if command == "convert" else []
    status, _, told = run(capsys, command, path, *targets)
    assert status == 1
    assert f"one: 'x', 'y'; a key is given behind the path: {path}::KEY" in told
    assert run(capsys, command, f"{path}::y", *targets)[0] == 0


def test_convert_a_raw_file(tmp_path, recording, capsys) -> None:
    """Raw files need their shape and dtype; an offset skips a header."""
    (tmp_path / "x.bin").write_bytes(b"head" + recording.tobytes())
    arguments = ["--shape=-1,64", "--dtype", "int16", "--offset", "4"]
    status, _, err = run(capsys, "convert", tmp_path / "x.bin", tmp_path / "x.h5", *arguments)
    assert (status, err) == (0, "")
    with h5py.File(tmp_path / "x.h5") as file:
        assert (file["data"][:] == recording).all()


def test_info(npy, capsys) -> None:
    """Arrays, chunks, codecs and bytes of HDF5, Zarr and .npy."""
    run(capsys, "convert", npy, "x.h5", "--chunks", "100,64")
    run(capsys, "convert", npy, "x.zarr", "--chunks", "100,64")
    for path in ("x.h5", "x.zarr", npy):
        status, out, err = run(capsys, "info", path)
        assert (status, err) == (0, "")
        assert "(1000, 64) int16" in out
        assert "125 KiB, stored as " in out
    assert "shuffle + gzip" in run(capsys, "info", "x.h5")[1]


def test_info_of_what_is_mostly_empty(tmp_path) -> None:
    """Logical, occupied and stored: only the chunks that are there count for the last two."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        made = file.create_dataset(
            "x", (10**6, 10**6), "f8", chunks=(100, 100), maxshape=(None,) * 2
        )
        made[:50, :50] = 1
        file.create_dataset("edge", data=np.ones(105), chunks=(10,), compression="gzip")
        file.create_dataset("none", (10,), "i2")
    edge, none, x = info_of(tmp_path / "x.h5")
    assert (x.nbytes, x.occupied_nbytes, x.stored_nbytes) == (8 * 10**12, 80_000, 80_000)
    assert str(x).endswith("7.28 TiB, 78.1 KiB occupied, stored as 78.1 KiB (100,000,000x)")
    assert (edge.occupied_nbytes, edge.codecs) == (840, "gzip")
    assert (none.occupied_nbytes, none.stored_nbytes) == (0, 0)
    for name, options in {"one": {}, "shard": {"shards": (200, 200)}}.items():
        array = zarr.create_array(
            tmp_path / "x.zarr",
            name=name,
            shape=(10**6, 10**6),
            dtype="f8",
            chunks=(100, 100),
            compressors=None,
            **options,
        )
        array[:50, :50] = 1
    one, shard = info_of(tmp_path / "x.zarr")
    assert (one.occupied_nbytes, one.stored_nbytes) == (80_000, 80_000)
    assert shard.occupied_nbytes == 320_000
    assert 80_000 < shard.stored_nbytes < 81_000


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["plan", "missing.npy"], 1, "does not exist"),
        (["convert", "x.npy", "x.unknown"], 1, "none of the suffixes"),
        (["convert", "x.npy", "missing/x.h5"], 1, "the folder .* does not exist"),
        (["convert", "x.npy", "x.h5", "--compression", "gzipp"], 2, "not a codec"),
        (["convert", "x.npy", "x.h5", "--memory-limit", "lots"], 2, "not a size"),
        (["convert", "x.npy", "x.h5", "--memory-limit", "5 B"], 1, "smallest limit"),
        (["convert", "x.npy", "x.h5", "--chunks", "a,b"], 2, "integers joined by commas"),
        (["info", "x.txt"], 1, "no known format"),
    ],
    ids=["missing", "suffix", "folder", "codec", "size", "limit", "chunks", "format"],
)
def test_errors_are_one_line_on_stderr(npy, capsys, arguments, status, message) -> None:
    """Exit status 1 for what failed, 2 for what cannot be asked; never a traceback."""
    Path("x.txt").write_text("text")
    before = sorted(os.listdir())
    got, out, err = run(capsys, *arguments)
    assert (got, out) == (status, "")
    assert re.fullmatch(rf"lazyio: .*{message}.*\n", err)
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize("arguments", [[], ["copy"], ["plan"], ["convert", "x.npy"]], ids=str)
def test_usage(capsys, arguments) -> None:
    """Argparse says what is missing and exits with 2."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: lazyio" in capsys.readouterr().err


def test_existing_target_is_kept(npy, capsys) -> None:
    """The second convert says what to pass, and changes nothing."""
    run(capsys, "convert", npy, "x.h5")
    before = Path("x.h5").read_bytes()
    status, _, err = run(capsys, "convert", npy, "x.h5")
    assert status == 1
    assert "on the command line that is --overwrite, or another --key" in err
    assert "--shape and --dtype say" in run(capsys, "convert", __file__, "y.h5")[2]
    assert Path("x.h5").read_bytes() == before


def test_python_dash_m(npy) -> None:
    """``python -m lazyio`` is the same program."""
    command = [sys.executable, "-m", "lazyio", "plan", "x.npy"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "on disk" in done.stdout


def test_no_bar_in_a_pipe_and_a_bar_on_a_terminal(npy) -> None:
    """Progress is drawn only where someone is looking."""
    command = [sys.executable, "-m", "lazyio", "convert", "x.npy", "x.h5", "--overwrite"]
    piped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (piped.returncode, piped.stderr) == (0, "")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # EIO, once the other end is closed.
        while more := os.read(ours, 4096):
            drawn += more
    process.communicate()
    os.close(ours)
    assert b"100%" in drawn


SLOW = """
import signal, sys, time
import numpy as np
import lazyio.sources.raw as raw
from lazyio import cli
whole = raw.RawSource.read_into
def slow(self, region, out):
    sys.stderr.write("reading\\n")
    sys.stderr.flush()
    time.sleep(0.2)
    whole(self, region, out)
raw.RawSource.read_into = slow
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "term"]
)
def test_signals_stop_cleanly(npy, number, status) -> None:
    """The exit status says what happened, a line says how to go on, nothing is left."""
    command = [sys.executable, "-c", SLOW, "convert", "x.npy", "x.h5", "--chunks", "10,64"]
    process = subprocess.Popen(
        [*command, "--memory-limit", "20 kB"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == "reading\n"
    time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert os.listdir() == ["x.npy"]


def test_windows_and_shards(tmp_path, capsys):
    """--access and --shards are those of plan and of the writers."""
    np.save(tmp_path / "x.npy", np.zeros((4000, 64), "i2"))
    source, target = str(tmp_path / "x.npy"), str(tmp_path / "x.zarr")
    assert cli.main(["plan", source, "--access", "4000,1", "--access", "-1,2"]) == 0
    assert "(4000, 1)" in capsys.readouterr().out
    assert cli.main(["convert", source, target, "--chunks", "100,64", "--shards", "1000,64"]) == 0
    assert zarr.open_array(target).shards == (1000, 64)
    assert cli.main(["convert", source, str(tmp_path / "x.h5"), "--shards", "auto"]) == 2
    assert "HDF5 has no shards" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["out.h5", "out.zarr"])
def test_attributes_come_along(tmp_path, target):
    """What gives the numbers their meaning is written too, unless it is left out."""
    with h5py.File(tmp_path / "x.nc", "w") as file:
        file["t"] = np.arange(6, dtype="i2")
        file["t"].attrs.update({"scale_factor": 0.5, "units": b"K", "valid": np.array([3])})
        file["t"].make_scale("t")
    source, out = f"{tmp_path / 'x.nc'}::t", str(tmp_path / target)
    assert cli.main(["convert", source, out]) == 0
    found = h5py.File(out)["t"].attrs if target == "out.h5" else zarr.open_array(out).attrs
    assert {**found} == {"scale_factor": 0.5, "units": "K", "valid": 3}
    assert cli.main(["convert", source, out, "--overwrite", "--no-attributes"]) == 0
    found = h5py.File(out)["t"].attrs if target == "out.h5" else zarr.open_array(out).attrs
    assert {**found} == {}
