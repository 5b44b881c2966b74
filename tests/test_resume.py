"""Jobs that were interrupted: gone on with, refused, or known to be done."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import dask.array as da
import h5py
import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import GzipCodec

import lazyio
from lazyio.atomic.journal import Journal
from lazyio.atomic.recovery import leftovers
from lazyio.atomic.workdir import hidden_path
from lazyio.errors import BlockError, OptionError, ResumeError, TargetError, TargetExistsError

VALUES = np.arange(4000, dtype="i4").reshape(200, 20)


class Failing:
    """A source of which the blocks from some row on cannot be read, at first."""

    shape, dtype, chunk_shape = VALUES.shape, VALUES.dtype, None

    def __init__(self, name="same", fails_from=None, values=VALUES):
        self.name, self.fails_from, self.values = name, fails_from, values
        self.reads = []

    def __dask_tokenize__(self):
        return "Failing", self.name

    def read(self, region):
        if self.fails_from is not None and region[0].stop > self.fails_from:
            raise RuntimeError("the lights went out")
        self.reads.append((region[0].start, region[0].stop))
        return self.values[region]


class FloatSource(Failing):
    """Another type of elements."""

    dtype = np.dtype("f4")

    def __init__(self, values):
        super().__init__(values=values)


COMMON = {"resume": True, "workers": 1, "memory_limit": "20 kB"}
KINDS = {
    "hdf5": ("x.h5", {"chunks": (10, 20)}),
    "hdf5-gzip": ("x.h5", {"chunks": (10, 20), "compression": "gzip"}),
    "hdf5-szip": ("x.h5", {"chunks": (10, 20), "compression": "szip"}),
    "hdf5-contiguous": ("x.h5", {"chunks": None, "memory_limit": "300 kB"}),
    "hdf5-v110": ("x.h5", {"chunks": (10, 20), "libver": ("v110", "v114"), "maxshape": (None, 20)}),
    "zarr": ("x.zarr", {"chunks": (10, 20)}),
    "zarr-v2": ("x.zarr", {"chunks": (10, 20), "zarr_format": 2}),
    "zarr-sharded": ("x.zarr", {"chunks": (5, 20), "shards": (10, 20)}),
}


@pytest.fixture(params=list(KINDS))
def kind(request, tmp_path):
    name, options = KINDS[request.param]
    return Kind(tmp_path / name, options)


class Kind:
    """One way to write, and to read with libraries that are not ours."""

    def __init__(self, path, options):
        self.path, self.options = path, options

    def write(self, data, **options):
        to = lazyio.to_hdf5 if self.path.suffix == ".h5" else lazyio.to_zarr
        return to(data, self.path, **{**COMMON, **self.options, **options})

    def read(self):
        if self.path.suffix == ".h5":
            with h5py.File(self.path) as file:
                return file["data"][...]
        return zarr.open_array(self.path, mode="r")[...]


def test_a_failed_job_goes_on(kind):
    """What was read before is not read again, and the result is verified."""
    failing = Failing(fails_from=120)
    with pytest.raises(BlockError, match="the lights went out"):
        kind.write(lazyio.from_source(failing))
    assert not kind.path.exists()
    (left,) = leftovers(kind.path)
    assert left.is_resumable
    assert left.n_chunks > 0 or kind.options["chunks"] is None
    whole = Failing()
    report = kind.write(lazyio.from_source(whole))
    assert report.n_resumed > 0 or kind.options["chunks"] is None
    kept = {row for start, stop in failing.reads for row in range(start, stop)}
    again = {row for start, stop in whole.reads for row in range(start, stop)}
    # A block that was read may have failed before it was written down.
    # And one is read again to be compared.
    block = report.plan.block_shape[0]
    assert len(kept & again) <= 40 + block or kind.options["chunks"] is None
    assert len(kept | again) == 200
    np.testing.assert_array_equal(kind.read(), VALUES)
    assert lazyio.verify(kind.path).status == "ok"
    assert leftovers(kind.path) == []


def test_a_job_that_is_done_returns_at_once(kind):
    kind.write(lazyio.from_source(Failing()))
    again = Failing()
    report = kind.write(lazyio.from_source(again))
    assert len(again.reads) == 1
    assert report.n_resumed == report.n_blocks > 0
    assert report.n_chunks > 0
    assert "blocks were kept, nothing was written" in str(report)
    trusted = Failing()
    report = kind.write(lazyio.from_source(trusted), resume="trust")
    assert trusted.reads == []
    assert report.n_resumed == report.n_blocks


def test_code_that_was_edited(kind):
    """The same name with other data behind it is found, before and after the job is done."""
    edited = lazyio.from_source(Failing(values=VALUES + 1))
    with pytest.raises(BlockError):
        kind.write(lazyio.from_source(Failing(fails_from=120)))
    if kind.options["chunks"] is not None:
        (left,) = leftovers(kind.path)
        with pytest.raises(ResumeError, match="not that of the interrupted job"):
            kind.write(edited)
        assert leftovers(kind.path) == [left]
    kind.write(lazyio.from_source(Failing()))
    with pytest.raises(TargetExistsError):
        kind.write(edited)
    np.testing.assert_array_equal(kind.read(), VALUES)
    report = kind.write(edited, resume="trust")
    assert report.n_resumed == report.n_blocks


def test_an_interrupted_job_is_trusted(kind):
    """Nothing is computed again of what is there."""
    failing = Failing(fails_from=120)
    with pytest.raises(BlockError):
        kind.write(lazyio.from_source(failing))
    whole = Failing()
    kind.write(lazyio.from_source(whole), resume="trust")
    kept = {row for start, stop in failing.reads for row in range(start, stop)}
    again = {row for start, stop in whole.reads for row in range(start, stop)}
    assert len(kept & again) <= 40 or kind.options["chunks"] is None
    np.testing.assert_array_equal(kind.read(), VALUES)


def test_a_block_that_fails_when_it_is_compared(kind):
    """Data that cannot be read again is not another job's."""
    kind.write(lazyio.from_source(Failing()))
    with pytest.raises(BlockError, match="the lights went out"):
        kind.write(lazyio.from_source(Failing(fails_from=0)))


def test_zeros_are_not_what_is_compared(tmp_path):
    """Of what is there the chunk of the most bytes is computed again."""
    values = np.zeros((200, 20), "i4")
    values[30:40] = VALUES[30:40]
    options = {"chunks": (10, 20), "compression": "gzip", **COMMON}
    failing = Failing(fails_from=120, values=values)
    with pytest.raises(BlockError):
        lazyio.to_hdf5(lazyio.from_source(failing), tmp_path / "x.h5", **options)
    edited = lazyio.from_source(Failing(values=2 * values))
    with pytest.raises(ResumeError, match=r"chunk \[30:40, 0:20\]"):
        lazyio.to_hdf5(edited, tmp_path / "x.h5", **options)


def test_lossy_codecs(tmp_path):
    """What a codec changes is compared as it comes back."""
    values = np.linspace(0, 1, 4000, dtype="f4").reshape(200, 20)
    lossy = {"compression": "scaleoffset", "compression_opts": 2}
    quantize = {"zarr_format": 2, "filters": [numcodecs.Quantize(digits=2, dtype="f4")]}
    for to, name, options in (
        (lazyio.to_hdf5, "x.h5", lossy),
        (lazyio.to_zarr, "x.zarr", quantize),
    ):
        options = {**COMMON, "chunks": (10, 20), **options}
        to(lazyio.from_source(FloatSource(values)), tmp_path / name, **options)
        report = to(lazyio.from_source(FloatSource(values)), tmp_path / name, **options)
        assert report.n_resumed == report.n_blocks
        with pytest.raises(TargetExistsError):
            to(lazyio.from_source(FloatSource(values + 1)), tmp_path / name, **options)


def test_resume_takes_three_values(tmp_path):
    for given in ("yes", None, 2):
        with pytest.raises(OptionError, match='give True, False or "trust"'):
            lazyio.to_hdf5(VALUES, tmp_path / "x.h5", resume=given)


def test_another_job_is_refused(kind):
    """What differs is said, and the job stays."""
    with pytest.raises(BlockError):
        kind.write(lazyio.from_source(Failing(fails_from=120)))
    with pytest.raises(ResumeError, match="the source of"):
        kind.write(lazyio.from_source(Failing(name="another")))
    with pytest.raises(ResumeError, match=r"dtype was <i4, and is <i8"):
        kind.write(lazyio.from_source(Failing()), dtype="i8")
    with pytest.raises(ResumeError, match=r"resume=True to resume it, or .* lazyio clean"):
        kind.write(lazyio.from_source(Failing()), resume=False)
    assert kind.write(lazyio.from_source(Failing())).n_resumed >= 0
    np.testing.assert_array_equal(kind.read(), VALUES)


def test_a_done_job_is_not_taken_for_another(kind):
    kind.write(lazyio.from_source(Failing()))
    with pytest.raises(TargetExistsError):
        kind.write(lazyio.from_source(Failing(name="another")))


class Graph:
    """A graph whose name is another every time it is made."""

    def __init__(self, values=VALUES, fails_after=None):
        self.values, self.fails_after, self.n_calls = values, fails_after, 0

    def array(self):
        def block(block_info):
            start, stop = block_info[None]["array-location"][0]
            if self.n_calls == self.fails_after:
                raise RuntimeError("the lights went out")
            self.n_calls += 1
            return self.values[start:stop]

        chunks = ((20,) * 10, (20,))
        return da.map_blocks(
            block, chunks=chunks, dtype="i4", meta=np.empty((0, 0), "i4"), name=os.urandom(8).hex()
        )


def test_a_graph_without_a_lasting_name(kind):
    """One finished block is computed again, and compared."""
    if kind.options["chunks"] is None or kind.options.get("compression") == "szip":
        pytest.skip("nothing but whole chunks that lazyio encodes can be compared")
    write = {"scheduler": "sync", "memory_limit": "50 kB"}
    with pytest.raises(BlockError):
        kind.write(Graph(fails_after=6).array(), **write)
    with pytest.raises(ResumeError, match="not that of the interrupted job"):
        kind.write(Graph(VALUES + 1).array(), **write)
    graph = Graph()
    report = kind.write(graph.array(), **write)
    assert report.n_resumed == 6
    assert graph.n_calls == 4 + 1
    np.testing.assert_array_equal(kind.read(), VALUES)
    again = Graph()
    report = kind.write(again.array(), **write)
    assert report.n_resumed == report.n_blocks
    assert again.n_calls <= 3
    with pytest.raises(TargetExistsError):
        kind.write(Graph(VALUES + 1).array(), **write)


def test_blocks_that_cut_chunks(kind):
    """A chunk is whole only when all blocks of it have come: others are computed again."""
    if "shards" in kind.options or kind.options["chunks"] is None:
        pytest.skip("whole shards are read at once")

    class Cut(Graph):
        def array(self):
            return super().array().rechunk((15, 20))

    write = {"scheduler": "sync", "memory_limit": "50 kB"}
    with pytest.raises(BlockError):
        kind.write(Cut(fails_after=6).array(), **write)
    report = kind.write(Cut().array(), **write)
    assert report.n_resumed > 0
    np.testing.assert_array_equal(kind.read(), VALUES)
    assert lazyio.verify(kind.path).status == "ok"


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_several_arrays(tmp_path, suffix):
    to = lazyio.to_hdf5 if suffix == "h5" else lazyio.to_zarr
    path = tmp_path / f"x.{suffix}"

    def write(fails_from):
        a, b = Failing("a"), Failing("b", fails_from, VALUES[::-1])
        data = {"a": lazyio.from_source(a), "deep/b": lazyio.from_source(b)}
        return to(data, path, chunks=(10, 20), **COMMON), a, b

    with pytest.raises(BlockError):
        write(120)
    report, a, b = write(None)
    assert len(a.reads) == 1
    # Some are kept, and one is read again to be compared.
    assert 0 < sum(stop - start for start, stop in b.reads) <= 200
    assert report.n_resumed > report.plans[next(iter(report.plans))].n_blocks
    assert lazyio.verify(path).status == "ok"
    np.testing.assert_array_equal(lazyio.open(path, "deep/b").compute(), VALUES[::-1])


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
@pytest.mark.parametrize("options", [{}, {"compressed": True}], ids=["plain", "gzip"])
@pytest.mark.parametrize("where", ["region", "append"])
def test_parts_of_arrays(tmp_path, suffix, options, where):
    """The part is resumed; the array is as it was until it is complete."""
    path = tmp_path / f"x.{suffix}"
    old = np.full((100, 20), 7, "i4")
    if suffix == "h5":
        codec = {"compression": "gzip"} if options else {}
        lazyio.to_hdf5(old, path, chunks=(15, 8), maxshape=(None, 20), **codec)
    else:
        codec = {"compressors": GzipCodec() if options else None}
        lazyio.to_zarr(old, path, chunks=(15, 8), **codec)
    expected = np.full((300, 20), 7, "i4") if where == "append" else np.full((250, 20), 0, "i4")
    expected[:100] = 7
    start = 100 if where == "append" else 50
    expected[start : start + 200] = VALUES
    place = {"append_dim": 0} if where == "append" else {"region": np.s_[50:250, :]}
    to = lazyio.to_hdf5 if suffix == "h5" else lazyio.to_zarr

    def write(fails_from=None):
        return to(lazyio.from_source(Failing("p", fails_from)), path, **place, **COMMON)

    with pytest.raises(BlockError):
        write(120)
    (found,) = [lazyio.open(path).compute()]
    np.testing.assert_array_equal(found, old)
    assert lazyio.verify(path).status == "ok"
    report = write()
    assert report.n_resumed > 0
    np.testing.assert_array_equal(lazyio.open(path).compute(), expected)
    assert lazyio.verify(path).status == "ok"
    report = write()
    assert report.n_resumed == report.n_blocks
    np.testing.assert_array_equal(lazyio.open(path).compute(), expected)
    # Other data under the same name is another part.
    edited = lazyio.from_source(Failing("p", values=VALUES + 1))
    report = to(edited, path, **place, **{**COMMON, "resume": "trust"})
    assert report.n_resumed == report.n_blocks
    report = to(edited, path, **place, **COMMON)
    assert report.n_resumed == 0
    assert lazyio.verify(path).status == "ok"
    there = lazyio.open(path).compute()
    np.testing.assert_array_equal(there[-200:], VALUES + 1)
    np.testing.assert_array_equal(there[:-200], expected if where == "append" else expected[:50])


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_text_and_masked(tmp_path, suffix):
    """What has no payload of its own waits as elements."""
    to = lazyio.to_hdf5 if suffix == "h5" else lazyio.to_zarr
    path = tmp_path / f"x.{suffix}"
    text = np.array([f"row {n} ü" * (n % 3) for n in range(50)], np.dtypes.StringDType())
    to({"text": text, "n": np.arange(50)}, path, chunks=(7,), resume=True)
    assert (np.asarray(lazyio.open(path, "text").compute()) == text).all()
    assert lazyio.verify(path).status == "ok"


def test_what_was_written_is_damaged_before_it_goes_on(kind):
    """It is written again, and the report says so."""
    if kind.options["chunks"] is None:
        pytest.skip("a single piece")
    with pytest.raises(BlockError):
        kind.write(lazyio.from_source(Failing(fails_from=180)))
    built = hidden_path(kind.path) / "data"
    files = [built] if built.is_file() else [*built.rglob("c/*/*"), *built.glob("[0-9]*.*")]
    spool = hidden_path(kind.path) / "payloads"
    if spool.exists() and spool.stat().st_size:
        files = [spool]
    for file in files:
        raw = bytearray(file.read_bytes())
        raw[::50] = bytes(byte ^ 255 for byte in raw[::50])
        file.write_bytes(raw)
    report = kind.write(lazyio.from_source(Failing()))
    assert "chunks-damaged" in dict(report.advice)
    np.testing.assert_array_equal(kind.read(), VALUES)
    assert lazyio.verify(kind.path).status == "ok"


def test_a_damaged_journal(kind):
    """What comes before the damage is kept, and the report says so."""
    if kind.options["chunks"] is None:
        pytest.skip("a single record")
    with pytest.raises(BlockError):
        kind.write(lazyio.from_source(Failing(fails_from=180)))
    journal = hidden_path(kind.path) / "journal"
    raw = bytearray(journal.read_bytes())
    raw[len(raw) // 2] ^= 1
    journal.write_bytes(raw)
    report = kind.write(lazyio.from_source(Failing()))
    assert "journal-damaged" in dict(report.advice)
    assert report.n_resumed > 0
    np.testing.assert_array_equal(kind.read(), VALUES)
    assert lazyio.verify(kind.path).status == "ok"


def test_a_target_that_changes_meanwhile(tmp_path):
    """A job that adds to a file goes on only with the file that it began with."""
    path = tmp_path / "x.h5"
    lazyio.to_hdf5(np.arange(5), path, "a")
    options = {"chunks": (10, 20), **COMMON}
    with pytest.raises(BlockError):
        lazyio.to_hdf5(lazyio.from_source(Failing(fails_from=120)), path, "b", **options)
    with h5py.File(path, "a") as file:
        file["c"] = 3
    with pytest.raises(ResumeError, match="target was"):
        lazyio.to_hdf5(lazyio.from_source(Failing()), path, "b", **options)


@pytest.mark.parametrize("target", ["handle", "memory", "zip"])
def test_where_there_is_no_journal(tmp_path, target):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        where = {"handle": file, "memory": zarr.storage.MemoryStore(), "zip": tmp_path / "x.zip"}
        to = lazyio.to_hdf5 if target == "handle" else lazyio.to_zarr
        with pytest.raises(OptionError, match="no journal"):
            to(np.arange(5), where[target], resume=True)


def test_without_the_layout_engine(tmp_path, monkeypatch):
    """Payloads wait beside the file, and are put in at the end."""
    monkeypatch.setattr("lazyio.storage.hdf5.file.engine_works", lambda: False)
    kind = Kind(tmp_path / "x.h5", KINDS["hdf5-gzip"][1])
    with pytest.raises(BlockError):
        kind.write(lazyio.from_source(Failing(fails_from=120)))
    report = kind.write(lazyio.from_source(Failing()))
    assert report.n_resumed > 0
    assert report.engine == "spool"
    np.testing.assert_array_equal(kind.read(), VALUES)


@pytest.mark.parametrize("engine", ["engine", "spool"])
def test_a_record_that_cannot_be_written(kind, tmp_path, monkeypatch, engine):
    """Whichever it is, and however much of it is written: nothing is noted after it."""
    if engine == "spool":
        if kind.path.suffix == ".zarr":
            pytest.skip("has no other engine")
        monkeypatch.setattr("lazyio.storage.hdf5.file.engine_works", lambda: False)
    write, n_records = Journal._write, 0

    def fails_once(journal, raw):
        nonlocal n_records
        n_records += 1
        if n_records == nth:
            write(journal, raw[: nth * 7 % len(raw)])
            raise OSError(errno.ENOSPC, "No space left on device")
        write(journal, raw)

    for nth in range(1, 21, 2):
        n_records = 0
        monkeypatch.setattr(Journal, "_write", fails_once)
        path = tmp_path / str(nth)
        path.mkdir()
        kind.path = path / kind.path.name
        options = {"workers": 3, "memory_limit": "400 kB"}
        if kind.options["chunks"] is None and nth > 1:
            return  # It has one record.
        with pytest.raises(TargetError, match="No space left on device") as caught:
            kind.write(lazyio.from_source(Failing()), **options)
        assert caught.value.errno == errno.ENOSPC
        monkeypatch.setattr(Journal, "_write", write)
        kind.write(lazyio.from_source(Failing()), **options)
        np.testing.assert_array_equal(kind.read(), VALUES)
        assert leftovers(kind.path) == []


SLOW = """
import sys, time
import numpy as np, lazyio

class Slow:
    shape, dtype, chunk_shape = (9000, 20), np.dtype("i4"), None
    def __dask_tokenize__(self):
        return "Slow"
    def read(self, region):
        time.sleep(0.01)
        with open(sys.argv[2], "a") as file:
            file.write(f"{region[0].start} {region[0].stop}\\n")
        rows = np.arange(region[0].start, region[0].stop)
        return np.repeat(rows[:, None], 20, axis=1).astype("i4")

path = sys.argv[1]
to = lazyio.to_hdf5 if path.endswith("h5") else lazyio.to_zarr
options = {"compression": "gzip"} if path.endswith("h5") else {}
report = to(lazyio.from_source(Slow()), path, chunks=(10, 20), resume=True, workers=2,
            memory_limit="20 kB", **options)
print(report.n_resumed, report.n_blocks)
"""


@pytest.mark.parametrize("suffix", ["h5", "zarr"])
def test_a_job_that_is_killed_again_and_again(tmp_path, suffix):
    """It is never set back, and a kill costs no more than blocks that were under way."""
    path, log = tmp_path / f"x.{suffix}", tmp_path / "log"
    n_kills, n_chunks = 0, 0
    for at in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, str(path), str(log)], stdout=subprocess.PIPE, text=True
        )
        begun = time.monotonic()
        seen = len(log.read_text().splitlines()) if log.exists() else 0
        while process.poll() is None and time.monotonic() - begun < 60:
            lines = log.read_text().splitlines() if log.exists() else []
            if len(lines) > seen + 20 + at and at < 6:
                process.send_signal(signal.SIGKILL)
                n_kills += 1
                break
            time.sleep(0.002)
        out, _ = process.communicate()
        if process.returncode == 0:
            break
        assert not path.exists()
        (left,) = leftovers(path)
        assert left.n_chunks >= n_chunks
        n_chunks = left.n_chunks
    n_resumed, n_blocks = map(int, out.split())
    assert n_kills >= 3
    assert 0 < n_resumed < n_blocks
    spans = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    rows = sum(stop - start for start, stop in spans)
    block = max(stop - start for start, stop in spans)
    n_workers, n_compared = 2, 1
    assert rows <= 9000 + n_kills * (n_workers + n_compared) * block
    assert lazyio.verify(path).status == "ok"
    np.testing.assert_array_equal(lazyio.open(path)[:, 3].compute(), np.arange(9000))


def test_jobs_are_told_and_cleaned(tmp_path):
    path = tmp_path / "x.h5"
    with pytest.raises(BlockError):
        lazyio.to_hdf5(lazyio.from_source(Failing(fails_from=120)), path, chunks=(10, 20), **COMMON)
    assert lazyio.verify(path).status == "incomplete"
    shutil.rmtree(hidden_path(path))
    with pytest.raises(lazyio.errors.SourceError):
        lazyio.verify(path)
