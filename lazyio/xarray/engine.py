"""``ds.to_netcdf(path, engine="lazyio")``: what xarray stores is kept, and written on closing."""

import io
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lazyio.errors import OptionError
from lazyio.writing.hdf5_in_memory import FileBuffer
from lazyio.writing.request import Request
from lazyio.writing.run_options import RunOptions
from lazyio.writing.target_checks import target_path
from lazyio.xarray.contents import (
    GroupContents,
    as_netcdf4,
    in_blocks,
    in_declared_dtype,
    is_read_when_used,
    with_enumeration,
)
from lazyio.xarray.netcdf import StorageOptions, netcdf_request, region_request
from lazyio.xarray.private import WritableCFDataStore, encode_variable_name
from lazyio.xarray.reading import hdf5_store

NAME = "lazyio"


@dataclass(kw_only=True)
class FileJob:
    """What the stores of one file share: everything that goes into it."""

    target: Any
    """A path, or what takes the bytes of a file."""
    mode: str
    """h5py's file mode."""
    options: StorageOptions = field(default_factory=StorageOptions)
    """How variables are stored."""
    running: RunOptions = field(default_factory=lambda: RunOptions(progress=False, scheduler=None))
    """The rest."""
    groups: list[GroupContents] = field(default_factory=list)
    """What has been stored so far."""
    is_made: bool = False
    """Whether the file is there, and its variables still empty."""

    def request(self, path: Path, *, fills: bool = True) -> Request[Any]:
        """Return the request for all of it."""
        if not self.is_made:
            return netcdf_request(
                path, self.groups, self.mode, self.options, self.running, fills=fills
            )
        lazy = [group.only_lazy() for group in self.groups]
        return region_request(path, lazy, self.options, self.running)

    def write(self, *, fills: bool) -> None:
        """Write what was stored."""
        if isinstance(self.target, (str, os.PathLike)):
            self.request(target_path(self.target), fills=fills).write()
            return
        if isinstance(self.target, io.BytesIO):
            mode = "a" if self.is_made else self.mode
            with FileBuffer(content=self.target, mode=mode).as_path() as path:
                self.request(path, fills=fills).write()
            return
        if self.mode != "w" or not fills:
            what = "compute=False" if self.mode == "w" else f"mode={self.mode!r}"
            msg = f"{what}: a file object is written from its start, once; give a path or a BytesIO"
            raise OptionError(msg)
        with tempfile.TemporaryDirectory(prefix="lazyio-") as folder:
            path = Path(folder, "file.nc")
            self.request(path, fills=fills).write()
            content = path.read_bytes()
        if isinstance(self.target, io.IOBase):
            self.target.write(content)
        else:
            self.target.getvalue = lambda: memoryview(content)  # xarray's own, for path=None.


class EngineStore(WritableCFDataStore):
    """One group of a file; what xarray stores in it is written when the store is closed."""

    __slots__ = ("_job", "_path")

    def __init__(self, job: FileJob, path: str = "") -> None:
        self._job = job
        self._path = path

    @classmethod
    def open(
        cls, filename: Any, mode: str = "w", format: str | None = None, **options: Any
    ) -> "EngineStore":
        """Return the root group of a file; xarray calls it, with what it was given."""
        if format not in (None, "NETCDF4"):
            msg = f"format={format!r}: lazyio writes NETCDF4 files; leave it out"
            raise OptionError(msg)
        # Files are never left open, so nothing is closed by anybody.
        options.pop("autoclose", None)
        given = [name for name, value in options.items() if value not in (None, False)]
        if given:
            msg = f'{", ".join(given)}: not an option of engine="lazyio"; leave it out'
            raise OptionError(msg)
        return cls(FileJob(target=filename, mode=mode))

    def get_child_store(self, group: str) -> "EngineStore":
        """Return the store of a group."""
        return EngineStore(self._job, f"{self._path}/{group.strip('/')}".strip("/"))

    def encode_variable(self, v: Any, name: Any = None) -> Any:
        """Return a variable as netCDF-4 has it; its values are encoded already."""
        return as_netcdf4(v, name)

    def store(
        self,
        variables: Any,
        attributes: Any,
        check_encoding_set: Any = frozenset(),
        writer: Any = None,  # noqa: ARG002 - nothing is written yet.
        unlimited_dims: Any = None,
    ) -> None:
        """Keep what xarray has to store, encoded, until the store is closed."""
        limit = self._job.options.memory_limit
        cut = [name for name, variable in variables.items() if is_read_when_used(variable)]
        given = {**variables, **{name: in_blocks(variables[name], limit) for name in cut}}
        encoded, attrs = self.encode(given, attributes)
        found = GroupContents(
            path=self._path,
            cut=frozenset(map(encode_variable_name, cut)),
            variables={
                encode_variable_name(name): with_enumeration(
                    in_declared_dtype(variable, given[name], name), variables[name]
                )
                for name, variable in encoded.items()
            },
            attrs=attrs,
            checked=frozenset(map(encode_variable_name, check_encoding_set)),
            unlimited_dims=tuple(unlimited_dims or ()),
        )
        self._job.groups.append(found)

    def sync(self) -> None:
        """Make the file with everything but elements: ``compute=False``."""
        if self._job.groups:
            self._job.write(fills=False)
            self._job.is_made = True

    def close(self) -> None:
        """Write everything; nothing where xarray has failed before it was complete."""
        if self._job.groups:
            self._job.write(fills=True)
            self._job.groups = []

    def load(self) -> Any:
        """Return what the group holds, once it has been written."""
        self.close()
        return hdf5_store(self._job.target, self._path or None).load()
