"""What makes a file as another one is: creation properties, user block, least version."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import h5py

_LOW = {0: h5py.h5f.LIBVER_EARLIEST, 1: h5py.h5f.LIBVER_EARLIEST, 2: h5py.h5f.LIBVER_V18}
"""Least format of what is in a file, by the version of its superblock."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FileForm:
    """How a file was made, so that another is made in the same way."""

    creation: h5py.h5p.PropFCID
    """Creation properties; the root group's are among them."""
    user_block: bytes = b""
    """What lies before the file, to whoever reads it as HDF5."""

    @classmethod
    def of(cls, file: h5py.File) -> "FileForm":
        """Return the form of an open file."""
        creation = file.id.get_create_plist().copy()
        # Not told with the file's own: how its root group numbers what is in it.
        root = file["/"].id.get_create_plist()
        creation.set_link_creation_order(root.get_link_creation_order())
        creation.set_attr_creation_order(root.get_attr_creation_order())
        creation.set_attr_phase_change(*root.get_attr_phase_change())
        creation.set_obj_track_times(root.get_obj_track_times())
        user_block = b""
        if nbytes := creation.get_userblock():
            with open(os.fsdecode(file.filename), "rb") as raw:
                user_block = raw.read(nbytes)
        return cls(creation=creation, user_block=user_block)

    def create(
        self,
        name: str,
        *,
        cache_nbytes: int,
        set_driver: Callable[[h5py.h5p.PropFAID], object] | None = None,
    ) -> h5py.File:
        """Return a new file of this form, which no other program knows yet."""
        access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
        access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
        low = _LOW.get(self.creation.get_version()[0], h5py.h5f.LIBVER_V110)
        access.set_libver_bounds(low, h5py.h5f.LIBVER_LATEST)
        _, slots, _, preemption = access.get_cache()
        access.set_cache(0, slots, cache_nbytes, preemption)
        access.set_file_locking(False, True)
        if set_driver is not None:
            set_driver(access)
        flags = h5py.h5f.ACC_TRUNC
        return h5py.File(h5py.h5f.create(os.fsencode(name), flags, self.creation, access))

    def write_user_block(self, path: str) -> None:
        """Write what lies before a file that was made in this form."""
        if self.user_block:
            with open(path, "r+b") as raw:
                raw.write(self.user_block)
