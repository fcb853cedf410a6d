"""Why the file of an SQLite database cannot be written, and what is to be done.

SQLite writes beside the file too: its log `-wal`, what processes share `-shm`, a `-journal`. Each
may be of another user, as where root has run a command once.
"""

import os
import pwd
import stat
from pathlib import Path

_BESIDE = ("-wal", "-shm", "-journal")


def obstacle(path: Path) -> str | None:
    """In one line what keeps this user from it; None where nothing of that kind does."""
    try:
        return _obstacle(path.absolute())
    except OSError:
        return None


def _obstacle(path: Path) -> str | None:
    folder = path.parent
    for above in reversed(folder.parents):
        if above.is_dir() and not _may(above, os.X_OK):
            return _told(above, "enter", "x")
    while not os.path.lexists(folder):
        folder = folder.parent  # where the folder would be made
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return (
            f"the file system of {folder} is read-only: mount it for writing (an error of the disk "
            "may have turned it so), or keep the database elsewhere"
        )
    if not folder.is_dir():
        return f"{folder} is no folder: keep the database elsewhere"
    if not _may(folder, os.W_OK | os.X_OK):
        # Where the file alone may be written, that is not enough.
        return _told(folder, "write in", "wx")
    for file in (path, *(path.with_name(path.name + end) for end in _BESIDE)):
        if os.path.lexists(file) and not _may(file, os.R_OK | os.W_OK):
            return _told(file, "write", "rw")
    return None


def _may(path: Path, mode: int) -> bool:
    # Not as the user who has started the process, where that is another one.
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def _told(path: Path, what: str, rights: str) -> str:
    found = path.stat()
    me, owner = _name(os.geteuid()), _name(found.st_uid)
    mode = stat.filemode(found.st_mode)
    wanted = sum({"r": stat.S_IRUSR, "w": stat.S_IWUSR, "x": stat.S_IXUSR}[one] for one in rights)
    if me != owner:
        # What root has made once by hand is no reason to run as root.
        run = f"run imgsync as {owner}, or " if found.st_uid else ""
        todo = f"{run}give it to {me}: 'chown {me} {path}'"
    elif found.st_mode & wanted != wanted:
        todo = f"'chmod u+{rights} {path}'"
    else:
        todo = "its mode would allow it: see 'lsattr', and what guards this machine"
    return f"user {me} may not {what} {path}, which is {owner}'s with mode {mode}; {todo}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # as in a container
        return str(uid)
