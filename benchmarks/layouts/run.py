"""``python -m benchmarks layouts``: random HDF5 datasets, read and changed, against h5py.

Each trial makes a file with a dataset of any type, layout, index of chunks,
filter and file format that libhdf5 has, by the trial's own seed. lazyio reads
it, writes a region, appends, overwrites, converts and verifies it; afterwards
h5py must find what was there, and what was written, and nothing else. Errors
must be lazyio's own, and only of types that have no place in an array. Trials
are numbered: runs of other seeds add up.
"""

import argparse
import contextlib
import random
import shutil
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import h5py
import numpy as np
import zarr

import lazyio
from benchmarks.layouts.datasets import KEY, OTHER, Array, Made, make
from benchmarks.options import add_shared, chosen_from, output_folder, save
from lazyio.errors import LazyioError, TargetError, UnsupportedDtypeError
from lazyio.info import info_of
from lazyio.verification.verify import verify_here

_N_SHORT = 150


class Fault(Exception):
    """Something is not as it should be."""


class OfLibhdf5(Exception):
    """h5py alone cannot read back what it writes: no fault of ours."""


def main(arguments: list[str]) -> int:
    """Try datasets; return 1 when one came out wrong.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks layouts", description=__doc__)
    add_shared(parser)
    parser.add_argument("--trials", type=int, default=2000, help="datasets (default: 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first (default: 0)")
    parser.add_argument(
        "--operations",
        type=chosen_from(list(_OPERATIONS)),
        default=list(_OPERATIONS),
        help=f"comma-separated, of {', '.join(_OPERATIONS)} (default: all)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show where errors come from")
    given = parser.parse_args(arguments)
    n_trials = _N_SHORT if given.short else given.trials
    tally: Counter[str] = Counter()
    faults = []
    began = time.monotonic()
    with output_folder(given.data) as folder, dask.config.set(scheduler="synchronous"):
        warnings.simplefilter("ignore")
        for seed in range(given.seed, given.seed + n_trials):
            for name, what in _faults_of(seed, folder / "trial", given.operations, tally):
                faults.append(name)
                print(f"seed {seed}: {name}: {what}", flush=True)
                if given.verbose:
                    traceback.print_exc()
    for name, n in sorted(tally.items()):
        print(f"{name:16}{n:7}")
    seconds = time.monotonic() - began
    last = given.seed + n_trials - 1
    print(f"{n_trials} datasets, seeds {given.seed} to {last}, {seconds:.0f} s")
    print(f"{len(faults)} faults {dict(Counter(faults))}")
    save(given.json, seeds=[given.seed, last], operations=dict(tally), faults=len(faults))
    return 1 if faults else 0


def _faults_of(
    seed: int, here: Path, operations: list[str], tally: Counter[str]
) -> Iterator[tuple[str, str]]:
    """Make a dataset and try operations on copies of it; yield what goes wrong."""
    shutil.rmtree(here, ignore_errors=True)
    (here / "made").mkdir(parents=True)
    try:
        made = make(here / "made" / "x.h5", random.Random(seed))
    except (ValueError, RuntimeError, OSError, TypeError, KeyError):
        tally["not made"] += 1
        return
    for name in operations:
        rng = random.Random(f"{seed} {name}")
        shutil.rmtree(here / "copy", ignore_errors=True)
        shutil.copytree(here / "made", here / "copy")
        try:
            with contextlib.chdir(here / "copy"):
                is_done = _OPERATIONS[name](here / "copy" / "x.h5", made, rng)
            tally[name if is_done else f"{name}: no"] += 1
        except OfLibhdf5:
            tally[f"{name}: libhdf5"] += 1
        except Fault as fault:
            yield name, f"{fault} ({made.text})"
        except LazyioError as error:
            if _may_be_refused(made, error):
                tally[f"{name}: refused"] += 1
            else:
                yield name, f"{type(error).__name__}: {error} ({made.text})"
        except Exception as error:  # noqa: BLE001 - what comes out must be lazyio's own
            yield name, f"foreign {type(error).__name__}: {error} ({made.text})"


def _may_be_refused(made: Made, error: LazyioError) -> bool:
    """Return whether an error tells of what lazyio does not do: all that is not in the file."""
    is_of_external = made.is_external and (
        isinstance(error, UnsupportedDtypeError) or "lie in other files" in str(error)
    )
    return is_of_external or (made.kind.is_refused and isinstance(error, UnsupportedDtypeError))


def _read(path: Path, made: Made, rng: random.Random) -> bool:
    expected = _by_h5py(path, made)
    array = lazyio.open(path, KEY)
    _require_same(array.compute(), expected, "lazyio.open")
    part = _region(rng, made.shape)
    inside = np.asarray(expected[part], expected.dtype)
    _require_same(array[part].compute(), inside, f"lazyio.open()[{part}]")
    return True


def _region_written(path: Path, made: Made, rng: random.Random) -> bool:
    part = _region(rng, made.shape)
    if not made.is_writable or made.kind.is_refused or not _size(part):
        return False
    expected = _by_h5py(path, made)
    values = _values(made, rng, tuple(one.stop - one.start for one in part))
    changed = expected.copy()
    changed[part] = values
    with _unless_of_libhdf5(made, changed):
        lazyio.to_hdf5(_given(values), path, KEY, region=part)
    expected = changed
    _require_kept(path, made, expected, f"region={part}")
    return True


def _appended(path: Path, made: Made, rng: random.Random) -> bool:
    axis = _axis(made, rng)
    if axis is None:
        return False
    expected = _by_h5py(path, made)
    values = _values(made, rng, _longer(made, rng, axis))
    longer = np.concatenate([expected, values], axis)
    with _unless_of_libhdf5(made, longer):
        lazyio.to_hdf5(_given(values), path, KEY, append_dim=axis)
    _require_kept(path, made, longer, f"append_dim={axis}")
    return True


def _pushed(path: Path, made: Made, rng: random.Random) -> bool:
    axis = _axis(made, rng)
    if axis is None:
        return False
    expected = _by_h5py(path, made)
    values = _values(made, rng, _longer(made, rng, axis))
    longer = np.concatenate([expected, values], axis)
    with _unless_of_libhdf5(made, longer), lazyio.writer(path) as writer:
        array = writer.create(KEY, axis=axis)
        array.append(_given(values))
    _require_kept(path, made, longer, f"writer, axis={axis}")
    return True


def _overwritten(path: Path, made: Made, rng: random.Random) -> bool:
    if made.kind.is_refused:
        return False
    values = _values(made, rng, made.shape)
    lazyio.to_hdf5(_given(values), path, KEY, overwrite=True)
    _require_same(_by_h5py(path, made), values, "overwrite=True, read by h5py")
    _require_same(lazyio.open(path, KEY).compute(), values, "overwrite=True")
    _require_sound(path)
    return True


def _converted(path: Path, made: Made, _: random.Random) -> bool:
    expected = _by_h5py(path, made)
    source = lazyio.open(path, KEY)
    lazyio.to_hdf5(source, path.with_name("new.h5"), "y")
    with h5py.File(path.with_name("new.h5")) as file:
        _require_same(_plain(file["y"]), expected, "to_hdf5(open())")
    try:
        lazyio.to_zarr(source, path.with_suffix(".zarr"), "y")
    except UnsupportedDtypeError:
        return True
    found = zarr.open_array(path.with_suffix(".zarr"), path="y", mode="r")[...]
    _require_same(np.asarray(found), expected, "to_zarr(open())")
    return True


def _verified(path: Path, _: Made, __: random.Random) -> bool:
    _require_sound(path)
    info_of(str(path))
    return True


_OPERATIONS: dict[str, Callable[[Path, Made, random.Random], bool]] = {
    "read": _read,
    "region": _region_written,
    "append": _appended,
    "writer": _pushed,
    "overwrite": _overwritten,
    "convert": _converted,
    "verify": _verified,
}


def _by_h5py(path: Path, made: Made) -> Array:
    """Return all elements as h5py reads them."""
    with h5py.File(path) as file:
        if made.kind.is_refused:
            # Of a type that h5py may not read either.
            with contextlib.suppress(Exception):
                return np.asarray(file[KEY][()])
            return np.empty(0)
        return _plain(file[KEY])


def _plain(dataset: h5py.Dataset) -> Array:
    if h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype.hasobject:
        return np.array(dataset.asstr()[()], object)
    if dataset.dtype.kind == "V" and dataset.dtype.names is None:
        # libhdf5 converts between opaque types of equal tags only, and numpy has none.
        out = np.empty(dataset.shape, dataset.dtype)
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, out, dataset.id.get_type())
        return out
    return np.array(dataset[()], dataset.dtype)


def _values(made: Made, rng: random.Random, shape: tuple[int, ...]) -> Array:
    return made.kind.draw(np.random.default_rng(rng.randrange(2**32)), shape)


def _given(values: Array) -> Array:
    """Return values as a user has them: text as numpy's own."""
    return values.astype(np.dtypes.StringDType()) if values.dtype.hasobject else values


def _axis(made: Made, rng: random.Random) -> int | None:
    grown = [at for at, bound in enumerate(made.maxshape) if bound is None]
    if not made.is_chunked or made.kind.is_refused or not grown:
        return None
    return rng.choice(grown)


def _longer(made: Made, rng: random.Random, axis: int) -> tuple[int, ...]:
    return (*made.shape[:axis], rng.randint(1, 7), *made.shape[axis + 1 :])


def _region(rng: random.Random, shape: tuple[int, ...]) -> tuple[slice, ...]:
    found = []
    for extent in shape:
        start = rng.randint(0, max(0, extent - 1))
        found.append(slice(start, rng.randint(min(start + 1, extent), extent)))
    return tuple(found)


def _size(part: tuple[slice, ...]) -> int:
    size = 1
    for one in part:
        size *= one.stop - one.start
    return size


def _require_kept(path: Path, made: Made, expected: Array, what: str) -> None:
    """Raise unless h5py and lazyio read what is expected, and all else is as it was."""
    try:
        found = _by_h5py(path, made)
    except OSError as error:
        _require_managed(made, expected)
        raise Fault(f"{what}, h5py cannot read it: {error}") from error
    _require_same(found, expected, f"{what}, read by h5py")
    _require_same(lazyio.open(path, KEY).compute(), expected, f"{what}, read back")
    with h5py.File(path) as file:
        if file[OTHER][...].tolist() != [0, 1, 2, 3, 4] or file[KEY].attrs["unit"] != "mV":
            raise Fault(f"{what}: the other dataset or an attribute has changed")
    _require_sound(path)


@contextlib.contextmanager
def _unless_of_libhdf5(made: Made, expected: Array) -> Iterator[None]:
    """Let no error count that h5py comes to by itself when it writes the same."""
    try:
        yield
    except TargetError:
        _require_managed(made, expected)
        raise


def _require_managed(made: Made, expected: Array) -> None:
    """Raise when h5py cannot write that, or not read it: records of padded text, or by szip."""
    alone = made.path.with_name("alone.h5")
    shutil.copy(made.path, alone)
    try:
        with h5py.File(alone, "r+") as file:
            if expected.shape != made.shape:
                file[KEY].resize(expected.shape)
            file[KEY][...] = expected
            file.flush()
        is_same = _is_same(_by_h5py(alone, made), expected)
    except (OSError, TypeError) as error:
        raise OfLibhdf5 from error
    finally:
        alone.unlink()
    if not is_same:
        raise OfLibhdf5


def _require_sound(path: Path) -> None:
    report = verify_here(str(path), None, deep=True)
    if report.status == "damaged":
        raise Fault(f"verify accuses it: {report}")


def _require_same(found: Any, expected: Array, what: str) -> None:
    if not _is_same(np.asarray(found), expected):
        raise Fault(f"{what}: {found!r:.300} instead of {expected!r:.300}")


def _is_same(found: Array, expected: Array) -> bool:
    if found.shape != expected.shape:
        return False
    if expected.dtype.names:
        return found.dtype.names == expected.dtype.names and all(
            _is_same(found[name], expected[name]) for name in expected.dtype.names
        )
    if expected.dtype.hasobject:
        return bool(found.astype(object).tolist() == expected.tolist())
    if expected.dtype.kind == "V":
        return found.tobytes() == expected.tobytes()
    return np.array_equal(found, expected, equal_nan=expected.dtype.kind in "fc")
