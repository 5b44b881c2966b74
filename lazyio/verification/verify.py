"""``verify``: whether what is stored is what was written."""

import errno
import logging
import os
import time
from pathlib import Path
from typing import Any

from lazyio.atomic.publish_steps import check_finished
from lazyio.atomic.recovery import leftovers, refuse_half_applied
from lazyio.errors import (
    DamagedDataError,
    OptionError,
    SourceError,
    UnknownFormatError,
    UnsafeFileError,
)
from lazyio.options import check_flags
from lazyio.os_errors import system_errors
from lazyio.regions import boxes
from lazyio.sources.base import Source, leaves_of, reading_unit
from lazyio.sources.files import absolute, existing
from lazyio.sources.foreign import foreign_errors
from lazyio.sources.lookup import FILE_FORMATS, FileFormat, file_format, format_of
from lazyio.sources.raw import RawSource
from lazyio.sources.zarr_metadata import require_zarr
from lazyio.untrusted.helper import NoHelperError, ask, is_available
from lazyio.verification.hdf5 import check_file
from lazyio.verification.renewal import renewed
from lazyio.verification.report import DAMAGED, INCOMPLETE, Findings, VerifyReport

logger = logging.getLogger("lazyio")


@system_errors(SourceError)
def verify(path: Any, key: Any = None, *, deep: bool = True, renew: bool = False) -> VerifyReport:
    """Check a file or store for damage, against the digests that lazyio stored in it.

    Without digests, as in files of other programs, it is checked that all
    chunks decode, and that checksums hold where there are any.

    It is read by a child process with limits of memory and time, so that a
    file that was damaged, or made to do harm, cannot end the caller.

    Parameters
    ----------
    path : path-like
        An HDF5 file, a Zarr store in a local folder or a zip file, or a file of
        another format that is read, such as ``.npy`` or TIFF.
    key : str, optional
        One array of it; by default all of them.
    deep : bool
        Whether to read every chunk; else only what describes them is checked.
    renew : bool
        Whether to store digests of what is there now, after decoding all of it: once another
        program has changed the file for good reason, or has made it. It is changed as a whole or
        not at all, and the report is on what it is then.

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
        When it is of no format that is read. Of those beside HDF5 and Zarr it is only
        checked that they decode.
    DamagedDataError
        With ``renew=True``, when not all of it decodes; nothing is changed then.
    TargetError, TargetLockedError
        With ``renew=True``, when it cannot be changed.

    Examples
    --------
    >>> import dask.array as da, lazyio
    >>> report = lazyio.to_hdf5(da.ones((1000, 64)), "ones.h5", mode="w")
    >>> lazyio.verify("ones.h5").status
    'ok'
    """
    check_flags(deep=deep, renew=renew)
    if renew and not deep:
        msg = "renew=True decodes all of a file, and deep=False nothing; leave one of them out"
        raise OptionError(msg)
    if not isinstance(path, (str, os.PathLike)) or "://" in str(path):
        msg = f"path={path!r} is no local path; copy what is to be verified to a disk here"
        raise OptionError(msg)
    if key is not None and not isinstance(key, str):
        msg = f"key={key!r} is no path inside a file or store; give a string"
        raise OptionError(msg)
    place = str(absolute(path))
    if not renew:
        return _looked_at(place, key, str(path), deep=deep)
    existing(place)
    return renewed(
        Path(os.path.realpath(place)),
        key,
        decode=lambda: _looked_at(place, key, str(path), deep=True, decodes=True),
        look=lambda: _looked_at(place, key, str(path), deep=False),
    )


def _looked_at(
    place: str, key: str | None, path: str, *, deep: bool, decodes: bool = False
) -> VerifyReport:
    """Return what a child process finds, or this one where there cannot be one."""
    options = {"deep": deep, "decodes": decodes}
    if not is_available():
        return verify_here(place, key, **options)
    try:
        answer, _ = ask(place, {"do": "verify", "key": key, "options": options})
    except NoHelperError as error:
        logger.warning("%s is verified in this process: %s", place, error)
        return verify_here(place, key, **options)
    with foreign_errors(place, UnsafeFileError):
        return VerifyReport.from_dict(answer, path)


@system_errors(SourceError)
def verify_here(path: str, key: str | None, *, deep: bool, decodes: bool = False) -> VerifyReport:
    """Do it in this process, which a damaged file may crash; see :func:`verify`.

    ``decodes`` leaves digests aside, and only sees whether everything decodes.
    """
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
    _find(target, key, findings, deep=deep, decodes=decodes)
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
        links=tuple(findings.links),
        n_arrays=findings.n_arrays,
        n_chunks=findings.n_chunks,
        nbytes=findings.nbytes,
        seconds=time.perf_counter() - began,
    )


def _find(target: Path, key: str | None, findings: Findings, **how: bool) -> None:
    """Check what is at a path, by its format."""
    kind = format_of(target)
    if kind == "hdf5":
        check_file(target, key, findings, **how)
    elif kind == "zarr":
        require_zarr()
        from lazyio.verification.zarr import check_store, check_zip

        check = check_store if target.is_dir() else check_zip
        check(target, key, findings, **how)
    elif (one := file_format(kind)) is not None:
        _check_readable(one, target, key, findings, deep=how["deep"])
    else:
        msg = (
            f"{target} is neither HDF5, nor Zarr in a folder or zip, nor a file of another format "
            f"that is read ({', '.join(one.name for one in FILE_FORMATS)}); those are verified"
        )
        raise UnknownFormatError(msg)


def _require_readable(target: Path) -> None:
    """Refuse what may not be read, of which nothing can be said."""
    if os.path.exists(target) and not os.access(target, os.R_OK):
        msg = f"{target} cannot be read: {os.strerror(errno.EACCES)}"
        raise SourceError(errno.EACCES, msg)


def _check_readable(
    one: FileFormat, path: Path, key: str | None, findings: Findings, *, deep: bool
) -> None:
    """Open each array of a file without digests, and decode what is encoded."""
    for name in one.array_keys(str(path)) if key is None else [key]:
        # Opening it compares its size with what its header says.
        source = one.source(path, name)
        findings.n_arrays += 1
        shown = name or "/"
        # Of elements that lie there as they are, there is nothing to decode.
        is_encoded = not all(type(leaf) is RawSource for leaf in leaves_of(source))
        if deep and is_encoded and not _decodes(source, shown, findings):
            continue
        findings.cannot_tell(shown, f"it can be read, and {one.suffixes[0]} has no checksums")


def _decodes(source: Source, key: str, findings: Findings) -> bool:
    """Read an array chunk by chunk, and note the first that cannot be."""
    for region in boxes(source.shape, reading_unit(source) or source.shape):
        try:
            source.read(region)
        except (SourceError, DamagedDataError) as error:
            findings.failed(key, error)
            return False
    return True
