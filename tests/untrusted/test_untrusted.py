"""Files that are not trusted: child processes read them, within limits."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import deflate
import h5py
import numpy as np
import pytest
import zarr

import lazyio
from lazyio.cli import main
from lazyio.errors import OptionError, PlanError, SourceChangedError, SourceError, UnsafeFileError
from lazyio.info import info_of
from lazyio.untrusted import helper
from lazyio.untrusted.messages import EndOfMessages, error_received, error_to_send, receive

VALUES = np.arange(60 * 20, dtype="<i4").reshape(60, 20)
ARRAYS = {
    "numbers": VALUES,
    "big-endian": VALUES.astype(">f8"),
    "bool": VALUES % 3 == 0,
    "fixed text": np.array([f"row {n}" for n in range(30)], "S8"),
    "text": np.array(["", "ä", "row " * 100, "☃"], np.dtypes.StringDType()),
    "times": np.arange(20).astype("datetime64[s]"),
    "records": np.array([(n, n / 2) for n in range(9)], [("a", "i2"), ("b", "f8")]),
    "one": np.array(5.5),
    "none": np.zeros((0, 3)),
}


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("suffix", [".h5", ".zarr"])
def test_the_same_as_trusted(tmp_path, name, suffix) -> None:
    """Shape, type, blocks and values."""
    path, values = tmp_path / f"x{suffix}", ARRAYS[name]
    if suffix == ".h5":
        lazyio.to_hdf5(values, path, "x")
    else:
        lazyio.to_zarr(values, path, "x")
    x, y = (lazyio.open(path, "x", trusted=trusted) for trusted in (True, False))
    assert (x.shape, x.dtype, x.chunks) == (y.shape, y.dtype, y.chunks)
    np.testing.assert_array_equal(x.compute(), y.compute())


def test_npy_and_zip_and_parts(tmp_path) -> None:
    """By content, as for others; a part is a part."""
    np.save(tmp_path / "x.npy", VALUES)
    lazyio.to_zarr(VALUES, tmp_path / "x.zip", chunks=(7, 9))
    for x in (
        lazyio.open(tmp_path / "x.npy", trusted=False),
        lazyio.from_npy(tmp_path / "x.npy", trusted=False, chunks=(11, 3)),
        lazyio.from_zarr(tmp_path / "x.zip", trusted=False, chunks=(14, 9)),
    ):
        assert (x[3:50:2, ::-1].compute() == VALUES[3:50:2, ::-1]).all()


def test_written_on_and_joined(tmp_path) -> None:
    """What is read this way is written as any other array."""
    for day in range(2):
        np.save(tmp_path / f"{day}.npy", VALUES + day)
    paths = [tmp_path / "0.npy", tmp_path / "1.npy"]
    x = lazyio.concatenate(paths, trusted=False)
    lazyio.to_hdf5(x, tmp_path / "x.h5", "x")
    y = lazyio.from_hdf5(tmp_path / "x.h5", "x", trusted=False)
    assert (y.compute() == np.concatenate([VALUES, VALUES + 1])).all()
    assert lazyio.stack(paths, trusted=False).shape == (2, 60, 20)


def test_it_travels(tmp_path) -> None:
    """A worker starts its own helper."""
    lazyio.to_hdf5(VALUES, tmp_path / "x.h5", "x")
    x = lazyio.open(tmp_path / "x.h5", trusted=False)
    (tmp_path / "x.pickle").write_bytes(pickle.dumps(x))
    code = (
        f"import pickle; print(int(pickle.load(open({str(tmp_path / 'x.pickle')!r}, 'rb')).sum()))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) == VALUES.sum()


def test_a_file_that_changed(tmp_path) -> None:
    """As for trusted ones, also where another child reads it."""
    np.save(tmp_path / "x.npy", VALUES)
    x = lazyio.open(tmp_path / "x.npy", trusted=False)
    helper._helper.stop()
    np.save(tmp_path / "x.npy", VALUES + 1)
    os.utime(tmp_path / "x.npy", ns=(1, 1))
    with pytest.raises(SourceChangedError, match="has changed since it was opened"):
        x.compute()


def test_errors_are_the_same(tmp_path) -> None:
    """By class and message."""
    with pytest.raises(SourceError, match="does not exist"):
        lazyio.open(tmp_path / "nothing.h5", trusted=False)
    (tmp_path / "x.h5").write_bytes(b"no HDF5")
    with pytest.raises(SourceError, match="cannot be opened as HDF5"):
        lazyio.open(tmp_path / "x.h5", trusted=False)
    lazyio.to_hdf5(VALUES, tmp_path / "y.h5", "x")
    with pytest.raises(SourceError, match="has no dataset 'y'"):
        lazyio.open(tmp_path / "y.h5", "y", trusted=False)


@pytest.mark.parametrize(
    ("open", "match"),
    [
        (lambda path: lazyio.open(VALUES, trusted=False), "is for paths; ndarray"),
        (lambda path: lazyio.open(path, trusted=0), "trusted=0; give True or False"),
        (lambda path: lazyio.open("s3://x/y", trusted=False), "on a disk here"),
        (lambda path: lazyio.open(path, trusted=False, shape=3), "shape: not an option"),
        (lambda path: lazyio.concatenate([path], trusted="no"), "give True or False"),
    ],
)
def test_options(tmp_path, open, match) -> None:
    """What it cannot be for is refused."""
    np.save(tmp_path / "x.npy", VALUES)
    with pytest.raises(OptionError, match=match):
        open(str(tmp_path / "x.npy"))


def _bomb(path: Path, nbytes: int) -> None:
    """Store a chunk that is a thousand times as large when it is decoded."""
    with h5py.File(path, "w") as file:
        x = file.create_dataset("x", (nbytes,), "u1", chunks=(nbytes,), compression="gzip")
        x.id.write_direct_chunk((0,), deflate.zlib_compress(bytes(nbytes), 1))


def test_a_bomb(tmp_path) -> None:
    """It is told by the limit, and takes no memory here."""
    _bomb(tmp_path / "x.h5", 2**27)
    asked = {"do": "read", "key": "x", "region": [[0, 10]]}
    path = str(tmp_path / "x.h5")
    _, found = helper.ask(path, asked, memory_nbytes=3 * 2**27, most_nbytes=10)
    assert found == bytes(10)
    _bomb(tmp_path / "y.h5", 2**28)
    with pytest.raises(UnsafeFileError, match="takes more memory than the limit"):
        helper.ask(str(tmp_path / "y.h5"), asked, memory_nbytes=2**20, most_nbytes=10)
    for trusted in (True, False):
        with pytest.raises(PlanError, match="chunks are the source's own"):
            lazyio.open(path, trusted=trusted, chunks=10, memory_limit="64 MiB")


def test_time_is_limited(tmp_path) -> None:
    """An alarm ends the child, whatever it is doing."""
    np.save(tmp_path / "x.npy", VALUES)
    with pytest.raises(UnsafeFileError, match="takes longer than its size allows"):
        helper.ask(str(tmp_path / "x.npy"), {"do": "describe"}, seconds=1e-6)


def test_a_crash(tmp_path) -> None:
    """Told with the signal; the next file is read by another child."""
    np.save(tmp_path / "x.npy", VALUES)
    path = str(tmp_path / "x.npy")
    with helper._child_for(path, 2**30, keep=False) as child:
        # Only its children: other tests have started processes, too.
        for process in _below(helper._helper.process.pid):
            os.kill(process, signal.SIGSEGV)
        with pytest.raises(UnsafeFileError, match=r"crash on it \(SIGSEGV\)"):
            child.ask({"do": "describe", "path": path, "seconds": 9}, path, None, 0)
    assert lazyio.open(path, trusted=False).shape == VALUES.shape


def _below(process: int) -> list[int]:
    """Return the processes that one has started, and those that they have."""
    time.sleep(0.2)
    found: list[int] = []
    for one in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, one.read_text().split()):
            found += [child, *_below(child)]
    return found


def test_threads_have_children_of_their_own(tmp_path) -> None:
    """They do not wait for each other, nor mix their answers up."""
    for at in range(4):
        np.save(tmp_path / f"{at}.npy", VALUES + at)

    def total(at: int) -> int:
        return int(lazyio.open(tmp_path / f"{at % 4}.npy", trusted=False).sum().compute())

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(total, range(32)))
    assert found == [int((VALUES + at % 4).sum()) for at in range(32)]
    assert len(helper._helper.idle) <= 8


def test_it_ends_with_the_caller(tmp_path) -> None:
    """Also where that is killed while a child is at work; a forked caller uses the same one."""
    np.save(tmp_path / "x.npy", VALUES)
    code = f"""
import lazyio, os, sys
x = lazyio.open({str(tmp_path / "x.npy")!r}, trusted=False)
from lazyio.untrusted import helper
first = helper._helper.process.pid
if os.fork() == 0:
    assert int(x.sum().compute(scheduler="synchronous")) == {int(VALUES.sum())}
    assert helper._helper.process is None
    os._exit(0)
assert os.wait()[1] == 0
print(first, helper._helper.process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    first, second = map(int, found.stdout.split())
    assert first == second, found.stderr
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{first}") and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{first}")


def test_info_and_the_command_line(tmp_path, capsys) -> None:
    """The same lines as of a trusted file."""
    lazyio.to_hdf5({"x": VALUES, "t": ARRAYS["text"]}, tmp_path / "x.h5")
    zarr.create_array(tmp_path / "x.zarr", data=VALUES)
    for name in ("x.h5", "x.zarr"):
        assert info_of(tmp_path / name, trusted=False) == info_of(tmp_path / name)
        assert main(["info", str(tmp_path / name)]) == 0
        plain = capsys.readouterr().out
        assert main(["info", str(tmp_path / name), "--untrusted"]) == 0
        assert capsys.readouterr().out == plain
    (tmp_path / "x.h5").write_bytes(b"no HDF5")
    assert main(["info", str(tmp_path / "x.h5"), "--untrusted"]) == 1
    assert "cannot be opened as HDF5" in capsys.readouterr().err


class TestMessages:
    """What is no answer is told from one."""

    @pytest.mark.parametrize(
        "sent",
        [
            b"",
            b"\0\0\0\2\0\0\0\0\0\0\0\0{",
            b"\0\0\0\2\0\0\0\0\0\0\0\0[]",
            b"\0\0\0\2\0\0\0\0\0\0\0\5{}hello",
            b"\xff" * 12,
            b"\0\1\0\0" + bytes(8) + b"[" * 2**16,
        ],
    )
    def test_nonsense(self, sent):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(sent)
            theirs.shutdown(socket.SHUT_WR)
            with pytest.raises(EndOfMessages):
                receive(ours)

    def test_errors(self):
        error = SourceError(2, "x is not there")
        found = error_received(error_to_send(error, "x"), "x")
        assert (type(found), found.errno, str(found)) == (SourceError, 2, "x is not there")
        for sent in ({"kind": "SystemExit"}, {"kind": "KeyError", "text": "x"}, None, {"kind": 3}):
            assert type(error_received(sent, "x")) is UnsafeFileError
        assert "KeyError" in str(error_received(error_to_send(KeyError("B-tree"), "x"), "x"))
