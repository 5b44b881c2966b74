"""``verify``: whether what is stored is what was written."""

import errno
import logging
import os
import time
from pathlib import Path
from typing import Any

from lazyio.atomic.publish_steps import check_finished
from lazyio.atomic.recovery import leftovers, refuse_half_applied
from lazyio.errors import OptionError, SourceError, UnknownFormatError, UnsafeFileError
from lazyio.options import check_flags
from lazyio.os_errors import system_errors
from lazyio.sources.files import absolute, existing
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.lookup import format_of
from lazyio.sources.raw import npy_source
from lazyio.sources.zarr_metadata import require_zarr
from lazyio.untrusted.helper import NoHelperError, ask, is_available
from lazyio.verification.hdf5 import check_file
from lazyio.verification.report import DAMAGED, INCOMPLETE, Findings, VerifyReport

logger = logging.getLogger("lazyio")


@system_errors(SourceError)
def verify(path: Any, key: Any = None, *, deep: bool = True) -> VerifyReport:
    """Check a file or store for damage, against the digests that lazyio stored in it.

    Without digests, as in files of other programs, it is checked that all
    chunks decode, and that checksums hold where there are any.

    It is read by a child process with limits of memory and time, so that a
    file that was damaged, or made to do harm, cannot end the caller.

    Parameters
    ----------
    path : path-like
        An HDF5 file, a Zarr store in a local folder or a zip file, or an
        ``.npy`` file.
    key : str, optional
        One array of it; by default all of them.
    deep : bool
        Whether to read every chunk; else only what describes them is checked.

    Returns
    -------
    VerifyReport
        ``status`` is ``"ok"``, ``"damaged"``, ``"modified"`` (another program
        has appended to it, or described it anew, and what was written is all
        there), ``"incomplete"`` (a run that was to make it has not finished)
        or ``"unverifiable"`` (it decodes, and there is nothing to check it
        against). ``damaged`` and ``modified`` list key, region and what it is.
        An edited value cannot be told from damage.

    Raises
    ------
    SourceError
        When there is no such path or key.
    UnsafeFileError
        When reading it crashes, or takes too long or too much memory.
    UnknownFormatError
        When it is none of HDF5, Zarr and ``.npy``, of which the last has nothing to check.

    Examples
    --------
    >>> import dask.array as da, lazyio
    >>> report = lazyio.to_hdf5(da.ones((1000, 64)), "ones.h5", mode="w")
    >>> lazyio.verify("ones.h5").status
    'ok'
    """
    check_flags(deep=deep)
    if not isinstance(path, (str, os.PathLike)) or "://" in str(path):
        msg = f"path={path!r} is no local path; copy what is to be verified to a disk here"
        raise OptionError(msg)
    if key is not None and not isinstance(key, str):
        msg = f"key={key!r} is no path inside a file or store; give a string"
        raise OptionError(msg)
    place, options = str(absolute(path)), {"deep": deep}
    if not is_available():
        return verify_here(place, key, **options)
    try:
        answer, _ = ask(place, {"do": "verify", "key": key, "options": options})
    except NoHelperError as error:
        logger.warning("%s is verified in this process: %s", place, error)
        return verify_here(place, key, **options)
    with foreign_errors(place, UnsafeFileError):
        return VerifyReport.from_dict(answer, str(path))


@system_errors(SourceError)
def verify_here(path: str, key: str | None, *, deep: bool) -> VerifyReport:
    """Do it in this process, which a damaged file may crash; see :func:`verify`."""
    began = time.perf_counter()
    target = Path(os.path.realpath(path))
    _require_readable(target)
    with foreign_errors(str(target)):
        left = [
            str(one)
            for one in leftovers(target)
            if not one.target.exists() or (one.is_interrupted and not one.is_locked)
        ]
        is_there = target.exists()
    try:
        refuse_half_applied(target)
        check_finished(target, below=True)
    except SourceError as error:
        return VerifyReport(path=str(path), status=INCOMPLETE, note=str(error))
    if not is_there and left:
        return VerifyReport(path=str(path), status=INCOMPLETE, note=left[0])
    existing(path)
    findings = Findings()
    kind = format_of(target)
    if kind == "hdf5":
        check_file(target, key, findings, deep=deep)
    elif kind == "zarr":
        require_zarr()
        from lazyio.verification.zarr import check_store, check_zip

        check = check_store if target.is_dir() else check_zip
        check(target, key, findings, deep=deep)
    elif kind == "npy":
        _check_npy(target, findings)
    else:
        msg = f"{path} is neither HDF5, nor Zarr in a folder or zip, nor .npy; those are verified"
        raise UnknownFormatError(msg)
    note = "; ".join(left)
    status = findings.status
    if left and status != DAMAGED:
        status = INCOMPLETE
    return VerifyReport(
        path=str(path),
        status=status,
        note=note,
        damaged=tuple(findings.damaged),
        modified=tuple(findings.modified),
        unverifiable=tuple(findings.unverifiable),
        n_arrays=findings.n_arrays,
        n_chunks=findings.n_chunks,
        nbytes=findings.nbytes,
        seconds=time.perf_counter() - began,
    )


def _require_readable(target: Path) -> None:
    """Refuse what may not be read, of which nothing can be said."""
    if os.path.exists(target) and not os.access(target, os.R_OK):
        msg = f"{target} cannot be read: {os.strerror(errno.EACCES)}"
        raise SourceError(errno.EACCES, msg)


def _check_npy(path: Path, findings: Findings) -> None:
    # Opening it compares its size with what its header says; there are no checksums.
    npy_source(path)
    findings.n_arrays = 1
    findings.cannot_tell("/", "its size is right, and .npy has no checksums")
