"""Ranks of MPI write together: real ones, under mpiexec."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import lazyio
from lazyio.errors import OptionError

FOLDER = Path(__file__).parent
PROGRAM = FOLDER / "program.py"
COLLECTIVE = FOLDER / "collective.py"
CASES = re.findall(r"^@case\ndef (\w+)", PROGRAM.read_text("utf-8"), re.MULTILINE)
FEW = [
    "same_array",
    "parts_that_cut_chunks",
    "ranks_that_do_not_see_the_files",
    "progress_is_told_to_the_first",
    "an_error_of_any_rank_is_that_of_all",
]
"""Cases that are repeated where only one thread may send messages."""
_MOST_SECONDS = 280
NEEDS_PARALLEL_HDF5 = pytest.mark.skipif(
    not h5py.get_config().mpi, reason="h5py is not built for MPI; see tox -e mpi-h5py"
)

pytestmark = pytest.mark.timeout(900)


def launched(n_ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program on some ranks, or skip where there is no MPI."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        pytest.skip("mpiexec is not installed")
    names = ("OMPI_ALLOW_RUN_AS_ROOT", "PRTE_ALLOW_RUN_AS_ROOT")
    root = {f"{name}{end}": "1" for name in names for end in ("", "_CONFIRM")}
    packages = os.pathsep.join([str(Path(lazyio.__file__).parents[1]), *_python_path()])
    command = [launcher, "--oversubscribe", "-n", str(n_ranks), sys.executable]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env={**os.environ, **root, "PYTHONPATH": packages},
        capture_output=True,
        text=True,
        timeout=_MOST_SECONDS,
        check=False,
    )


def _python_path() -> list[str]:
    return [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]


def outcomes(folder: Path, n_ranks: int, *arguments: str) -> dict[str, str]:
    """Return what became of each case that was run; nothing where it is well."""
    done = launched(n_ranks, PROGRAM, folder, *arguments)
    found = {path.stem: "" for path in folder.glob("*.ok")}
    for path in folder.glob("*.txt"):
        name = path.stem.partition(".")[0]
        found[name] = f"{found.get(name, '')}{path.stem}: {path.read_text()}"
    found.setdefault("", f"not run; exit status {done.returncode}: {done.stderr[-3000:]}")
    return found


@pytest.fixture(scope="module", params=[2, 4])
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    """Return what became of all cases on some ranks, which are started once."""
    return outcomes(tmp_path_factory.mktemp("ranks"), request.param)


@pytest.fixture(scope="module")
def on_one_thread(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Return what became of a few cases where threads may not send messages."""
    return outcomes(tmp_path_factory.mktemp("funneled"), 2, "funneled", *FEW)


@pytest.mark.parametrize("name", CASES)
def test_ranks_together(together: dict[str, str], name: str) -> None:
    """Each case of the program is well."""
    assert together.get(name, together[""]) == ""


@pytest.mark.parametrize("name", FEW)
def test_ranks_of_one_thread(on_one_thread: dict[str, str], name: str) -> None:
    """Some are well where only one thread may send messages."""
    assert on_one_thread.get(name, on_one_thread[""]) == ""


def test_a_job_goes_on_after_a_rank_was_killed(tmp_path: Path) -> None:
    """MPI ends the job when a rank dies; the same calls go on where they stopped."""
    program, kinds = FOLDER / "killed.py", ("h5-parts", "zarr-same")
    for kind in kinds:
        assert launched(2, program, tmp_path, "dies", kind).returncode != 0
        assert list(tmp_path.glob(f".{kind}*.lazyio/journal"))
    done = launched(2, program, tmp_path, "lives", *kinds)
    found = {path.stem for path in tmp_path.glob("*.ok")}
    assert found == set(kinds), done.stderr[-3000:]


@NEEDS_PARALLEL_HDF5
@pytest.mark.parametrize("n_ranks", [2, 4])
def test_ranks_in_a_file_that_all_have_open(tmp_path: Path, n_ranks: int) -> None:
    """By h5py's collective mode; see the environment ``mpi-h5py`` of tox."""
    done = launched(n_ranks, COLLECTIVE, tmp_path)
    told = {path.name: path.read_text() for path in tmp_path.glob("*.txt")}
    assert not told, "\n".join(told.values())
    cases = re.findall(r"^@case\ndef (\w+)", COLLECTIVE.read_text("utf-8"), re.MULTILINE)
    assert {path.stem for path in tmp_path.glob("*.ok")} == set(cases), done.stderr[-3000:]


def test_what_is_no_communicator_is_refused(tmp_path: Path) -> None:
    """Without MPI started, nothing can be one."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    with pytest.raises(OptionError, match="is no communicator of ranks"):
        lazyio.to_hdf5(np.ones(4), tmp_path / "a.h5", comm=object())
    assert "mpi4py.MPI" not in sys.modules


def test_the_extra_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has not installed mpi4py is told how."""
    monkeypatch.setattr("lazyio.codecs.libraries.optional", lambda _: None)
    for function, path in ((lazyio.to_hdf5, "a.h5"), (lazyio.to_zarr, "a.zarr")):
        with pytest.raises(OptionError, match=re.escape('pip install "lazyio[mpi]"')):
            function(np.ones(4), tmp_path / path, comm=object())


def programs_of_the_page() -> dict[str, str]:
    """Return the programs of the how-to page by their names."""
    page = (FOLDER.parents[1] / "docs/how-to/mpi.md").read_text("utf-8")
    found = re.findall(r"```python\n# (\w+\.py), started with.*?\n(.*?)```", page, re.DOTALL)
    return dict(found)


@NEEDS_PARALLEL_HDF5
@pytest.mark.parametrize("name", ["fill_h5py.py", "fill_open.py"])
def test_programs_of_the_page_in_a_file_that_all_have_open(tmp_path: Path, name: str) -> None:
    """They come to the same."""
    text = programs_of_the_page()[name]
    (tmp_path / "one.py").write_text(f"import os\nos.chdir({str(tmp_path)!r})\n{text}")
    done = launched(2, tmp_path / "one.py")
    assert done.returncode == 0, done.stderr[-3000:]
    filled = np.asarray(lazyio.open(tmp_path / "filled.h5", "x"))
    np.testing.assert_array_equal(filled, np.repeat([[0], [1]], 1000, 0) + np.zeros(64, int))


def test_programs_of_the_page(tmp_path: Path) -> None:
    """What the how-to page says to start is started."""
    programs = programs_of_the_page()
    assert list(programs) == ["fill_h5py.py", "fill.py", "share.py", "nwb.py", "fill_open.py"]
    del programs["fill_h5py.py"], programs["fill_open.py"]
    # One start is enough for all of them.
    (tmp_path / "all.py").write_text(
        f"import os\nos.chdir({str(tmp_path)!r})\n" + "\n".join(programs.values())
    )
    done = launched(2, tmp_path / "all.py")
    assert done.returncode == 0, done.stderr[-3000:]
    for path, key in (("filled.h5", "x"), ("filled.nwb", "acquisition/es/data")):
        filled = np.asarray(lazyio.open(tmp_path / path, key))
        np.testing.assert_array_equal(filled, np.repeat([[0], [1]], 1000, 0) + np.zeros(64, int))
    assert lazyio.open(tmp_path / "noise.h5", "x").shape == (20000, 64)
