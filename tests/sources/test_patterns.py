"""Globs and folders: several files as one array."""

import glob
import json
import os
import re
import resource
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lazyio
from lazyio.cli import main
from lazyio.errors import OptionError, SourceChangedError, SourceError, UnknownFormatError
from lazyio.sources.patterns import natural_key


def day(number, rows=3):
    """Return what a day's file holds: its number, in some rows."""
    return np.full((rows, 2), number, "int16")


@pytest.fixture
def days(tmp_path, monkeypatch):
    """Twelve files of one key, in a folder of their own, which is the working directory."""
    (tmp_path / "days").mkdir()
    monkeypatch.chdir(tmp_path / "days")
    for number in range(1, 13):
        with h5py.File(f"day{number}.h5", "w") as file:
            file.create_dataset("raw", data=day(number), chunks=(1, 2))
            file["raw"].attrs.update(unit="uV", number=number)
            file["other"] = np.zeros(3)
    return tmp_path / "days"


def values(array):
    return array.compute(scheduler="synchronous")


WHOLE = np.concatenate([day(number) for number in range(1, 13)])


@pytest.mark.parametrize("given", ["day*.h5", "./day*.h5", "../days/day*.h5", "**/day*.h5"])
def test_matches_are_joined_in_natural_order(days, given):
    """As concatenate joins them, day2 before day10, by relative and absolute patterns."""
    for pattern in (given, os.path.abspath(given), days / "day*.h5"):
        np.testing.assert_array_equal(values(lazyio.open(pattern, "raw")), WHOLE)


def test_stacked_if_asked(days):
    """Along a new axis 0."""
    found = lazyio.open("day*.h5", "raw", join="stack")
    np.testing.assert_array_equal(values(found), WHOLE.reshape(12, 3, 2))
    np.testing.assert_array_equal(values(lazyio.open("day*.h5", "raw", join="concatenate")), WHOLE)


@pytest.mark.parametrize("pattern", ["day?.h5", "day[1-9].h5"])
def test_one_character(days, pattern):
    np.testing.assert_array_equal(values(lazyio.open(pattern, "raw")), WHOLE[:27])


@pytest.mark.parametrize("name", ["a*.npy", "a?.npy", "a[0].npy", "[ab].npy"])
def test_a_name_that_is_there_is_no_pattern(tmp_path, name, monkeypatch):
    """Also where other files would match it."""
    monkeypatch.chdir(tmp_path)
    for other in ("a0.npy", "a1.npy", "a.npy", "b.npy"):
        np.save(other, np.zeros(1))
    np.save(name, np.arange(3))
    for path in (name, tmp_path / name):
        np.testing.assert_array_equal(values(lazyio.open(path)), np.arange(3))


def test_folders_have_any_name(tmp_path, monkeypatch):
    """The working directory is meant as it is called."""
    odd = tmp_path / "[a]*"
    odd.mkdir()
    monkeypatch.chdir(odd)
    np.save("x1.npy", np.arange(3))
    np.testing.assert_array_equal(values(lazyio.open("x*.npy")), np.arange(3))


def test_no_match(days):
    with pytest.raises(SourceError, match=r"no file matches 'night\*\.h5'; check the pattern"):
        lazyio.open("night*.h5", "raw")


def test_errors_name_the_file(days):
    with h5py.File("day3.h5", "w") as file:
        file["raw"] = np.zeros((3, 5), "int16")
    with pytest.raises(OptionError, match=r"item 2 \(.*day3\.h5, '/raw'\) has shape \(3, 5\)"):
        lazyio.open("day*.h5", "raw")
    with pytest.raises(SourceError, match=r"day1\.h5 holds 2 datasets"):
        lazyio.open("day*.h5")
    with pytest.raises(OptionError, match=r'give "concatenate" .* or "stack"'):
        lazyio.open("day*.h5", "raw", join="sideways")
    for one in ("day1.h5", np.zeros(3)):
        with pytest.raises(OptionError, match="join"):
            lazyio.open(one, join="stack")


def test_a_changed_file_is_not_read(days):
    """What was opened is one state of all files."""
    found = lazyio.open("day*.h5", "raw")
    with h5py.File("day7.h5", "r+") as file:
        file["raw"][...] = 0
    with pytest.raises(SourceChangedError, match=r"day7\.h5"):
        values(found)


def test_a_folder_of_files(days):
    """All files in it; hidden ones are no part of it."""
    (days / ".hidden").touch()
    for path in (days, str(days) + "/", "."):
        np.testing.assert_array_equal(values(lazyio.open(path, "raw")), WHOLE)


def test_a_folder_of_various_files(days):
    """Nothing is left out in silence."""
    (days / "notes.txt").touch()
    with pytest.raises(UnknownFormatError, match=r"known format: 'notes\.txt'\. Give the path"):
        lazyio.open(days, "raw")
    (days / "notes.txt").unlink()
    np.save("x.npy", WHOLE)
    with pytest.raises(UnknownFormatError, match=r"hdf5: 'day1\.h5'.* and 9 more; npy: 'x\.npy'"):
        lazyio.open(days, "raw")
    (days / "empty").mkdir()
    with pytest.raises(UnknownFormatError, match="it holds no file"):
        lazyio.open(days / "empty")


def test_stores_match_too(tmp_path):
    for number in (10, 9):
        zarr.create_array(tmp_path / f"day{number}.zarr", data=day(number))
    found = lazyio.open(tmp_path / "day*.zarr")
    np.testing.assert_array_equal(values(found), np.concatenate([day(9), day(10)]))
    np.testing.assert_array_equal(values(lazyio.open(tmp_path)), values(found))


def test_raw_files(tmp_path):
    """Of as many rows as each has."""
    for number in (10, 9):
        day(number, rows=number).tofile(tmp_path / f"day{number}.raw")
    options = {"format": "raw", "shape": (-1, 2), "dtype": "int16"}
    wanted = np.concatenate([day(9, 9), day(10, 10)])
    for path in (tmp_path / "day*.raw", tmp_path):
        np.testing.assert_array_equal(values(lazyio.open(path, **options)), wanted)


def test_files_of_strangers(days):
    """Each is read by a child process."""
    found = lazyio.open("day1*.h5", "raw", trusted=False)
    np.testing.assert_array_equal(
        values(found), np.concatenate([day(number) for number in (1, 10, 11, 12)])
    )
    with pytest.raises(OptionError, match="join"):
        lazyio.open("day1.h5", "raw", trusted=False, join="stack")


def test_anywhere_that_a_path_goes(days, tmp_path):
    """As an item, to plan and to write, and not onto one of the files."""
    joined = lazyio.concatenate([lazyio.open("day[1-9].h5", "raw"), lazyio.open("day??.h5", "raw")])
    np.testing.assert_array_equal(values(joined), WHOLE)
    for number in range(1, 4):
        np.save(f"x{number}.npy", day(number))
    assert lazyio.plan("x*.npy").shape == (9, 2)
    lazyio.to_hdf5(lazyio.open("x*.npy"), tmp_path / "out.h5", "x")
    np.testing.assert_array_equal(values(lazyio.open(tmp_path / "out.h5")), WHOLE[:9])
    with pytest.raises(lazyio.LazyioError, match=r"day3\.h5"):
        lazyio.to_hdf5(lazyio.open("day*.h5", "raw"), "day3.h5", "new", mode="w")


def test_command_line(days, tmp_path, capsys):
    """Attributes are those that all files have in common."""
    assert main(["plan", "day*.h5::raw"]) == 0
    assert "(36, 2)" in capsys.readouterr().out
    assert main(["convert", "day*.h5::raw", str(tmp_path / "all.h5")]) == 0
    with h5py.File(tmp_path / "all.h5") as file:
        np.testing.assert_array_equal(file["raw"], WHOLE)
        assert dict(file["raw"].attrs) == {"unit": "uV"}
    target = str(tmp_path / "all.zarr")
    assert main(["convert", f"{days}::raw", target, "--join", "stack"]) == 0
    assert zarr.open_array(target, mode="r").shape == (12, 3, 2)
    capsys.readouterr()
    assert main(["plan", "night*.h5::raw"]) == 1
    assert "no file matches" in capsys.readouterr().err
    assert main(["plan", "day1.h5::raw", "--join", "stack"]) == 2
    assert "is one" in capsys.readouterr().err


OPENED = """
import json, lazyio, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
found = lazyio.open(sys.argv[1])
print(json.dumps([found.shape, int(found.sum().compute(scheduler="threads"))]))
"""


def test_more_files_than_may_be_open(tmp_path):
    for number in range(300):
        np.save(tmp_path / f"{number}.npy", np.full((2, 2), number))
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 40
    command = [sys.executable, "-c", OPENED, str(tmp_path / "*.npy")]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found == [[600, 2], 4 * sum(range(300))]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(
        st.from_regex(r"[ab]{0,2}[0-9]{1,3}(_[0-9]{1,2})?", fullmatch=True),
        min_size=1,
        max_size=8,
        unique=True,
    )
)
def test_order_is_that_of_the_numbers(tmp_path_factory, names):
    """Whatever the names, against a model that pads all numbers to one length."""
    folder = tmp_path_factory.mktemp("x")
    for at, name in enumerate(names):
        np.save(folder / f"{name}.npy", np.array([at]))

    def padded(name):
        return re.sub("[0-9]+", lambda found: found[0].zfill(5), name), name

    wanted = [names.index(name) for name in sorted(names, key=padded)]
    found = values(lazyio.open(glob.escape(str(folder)) + "/*.npy")).tolist()
    assert [natural_key(names[at])[0] for at in found] == [
        natural_key(names[at])[0] for at in wanted
    ]
    assert sorted(found) == sorted(wanted)
