"""Whether there is room on a disk, before anything is computed."""

import errno
import shutil
from pathlib import Path

from lazyio.errors import TargetError
from lazyio.sizes import format_size


def require_space(folder: Path, nbytes: int, target: Path) -> None:
    """Refuse to begin what cannot end."""
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        msg = (
            f"{target} needs {format_size(nbytes)}, and {format_size(free)} are free at {folder}; "
            "free space, choose another disk, or compress"
        )
        raise TargetError(errno.ENOSPC, msg)
