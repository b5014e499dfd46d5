"""Files in the state folder: for its owner alone, also when root makes them by hand beside another user's service."""

from __future__ import annotations

import os
from pathlib import Path


def open_private(path: Path, flags: int) -> int:
    """Open, and create if need be, with mode 0600 and the folder's owner. Gives a descriptor; raises OSError."""
    handle = os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        folder, file = path.parent.stat(), os.fstat(handle)
        if os.geteuid() == 0 and file.st_uid != folder.st_uid:
            os.fchown(handle, folder.st_uid, folder.st_gid)
    except BaseException:
        os.close(handle)
        raise
    return handle
