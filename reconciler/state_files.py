"""Files in the state folder: for its owner alone, also when root makes them by hand beside another user's service."""

from __future__ import annotations

import os
from pathlib import Path


def open_private(path: Path, flags: int) -> int:
    """Open, or create with mode 0600 and the folder's owner. Gives a descriptor; raises OSError.

    A symbolic link is refused: whoever owns the folder must not lead root elsewhere. What is there already keeps its
    owner.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(path, flags)
    try:
        folder = path.parent.stat()
        if os.geteuid() == 0 and folder.st_uid != 0:
            os.fchown(handle, folder.st_uid, folder.st_gid)
    except BaseException:
        os.close(handle)
        raise
    return handle
