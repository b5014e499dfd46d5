"""Files in the state folder: for its owner alone, also when root makes them by hand beside another user's service."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_ROOT = 0
_GROUP_WRITES, _OTHERS_WRITE = 0o020, 0o002


def distrusted(folder: Path) -> str | None:
    """Why what lies in this folder may be forged, with a remedy; None if only root, its owner and we can write there.

    Root believes its owner, whoever it is: a service has its own. The others believe root and themselves. The group of
    this process, and root's, count as its own: Kubernetes gives a volume to the pod's `fsGroup`. Raises OSError.
    """
    found = folder.stat()
    if os.geteuid() != _ROOT and found.st_uid not in {_ROOT, os.geteuid()}:
        return (
            f"{folder} belongs to another user (uid {found.st_uid}), who could forge what was seen: give it to this "
            "user (chown), or name another folder in `state_dir`"
        )
    by_group = found.st_mode & _GROUP_WRITES and found.st_gid not in {_ROOT, os.getegid()}
    if found.st_mode & _OTHERS_WRITE or by_group:
        return (
            f"others can write to {folder} (mode {stat.S_IMODE(found.st_mode):04o}) and forge what was seen: "
            "`chmod 700` it, or name a folder inside it in `state_dir`, which is then made for this user alone"
        )
    return None


def open_private(path: Path, flags: int) -> int:
    """Open, or create with mode 0600 and the folder's owner. Gives a descriptor; raises OSError.

    A symbolic link is refused: whoever owns the folder must not lead root elsewhere. So is all else that may be another
    file than it seems. What is there already keeps its owner; if that is us, nobody else keeps a right to it.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        handle = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _found(path, os.open(path, flags))
    try:
        folder = path.parent.stat()
        if os.geteuid() == _ROOT and folder.st_uid != _ROOT:
            os.fchown(handle, folder.st_uid, folder.st_gid)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _found(path: Path, handle: int) -> int:
    try:
        found = os.fstat(handle)
        if wrong := _wrong_with(found, path.parent):
            raise OSError(errno.EINVAL, f"{wrong}; remove it", str(path))  # noqa: TRY301 - the handle is closed below
        if found.st_uid == os.geteuid() and found.st_mode & 0o077:
            os.fchmod(handle, 0o600)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _wrong_with(found: os.stat_result, folder: Path) -> str:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        return "is not a plain file of its own"
    is_foreign = found.st_uid not in {_ROOT, os.geteuid()} and (os.geteuid() != _ROOT or distrusted(folder))
    return f"belongs to another user (uid {found.st_uid})" if is_foreign else ""
