"""File permissions: what Weir stores on disk is accessible to its owner only."""

import os
import stat
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO
UMASK = 0o077


def keep_private(folder: Path) -> str:
    """Restrict the folder, if it exists, and everything in it to its owner; new files are restricted as well.

    Return a sentence for the log if other users could read the folder before, or still can; else "".
    Links in it are not followed. The folder itself comes last, so that an interrupted run is repeated.
    """
    os.umask(UMASK)
    folder = folder.resolve()
    if not folder.is_dir() or not stat.S_IMODE(folder.stat().st_mode) & OTHERS:
        return ""
    mended, refused = 0, 0
    for path in (*_below(folder), str(folder)):
        try:
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode) and mode & OTHERS:
                os.chmod(path, stat.S_IMODE(mode) & ~OTHERS)
                mended += 1
        except FileNotFoundError:
            continue  # another process has removed it meanwhile
        except PermissionError:
            refused += 1
    if refused:
        return (
            f"other users of this machine may read {refused} files and folders in {folder}, and this user "
            "does not own them: change their owner, or set WEIR_DATA_DIR to another folder"
        )
    return (
        f"other users could read {folder}: {mended} files and folders are now private to the owner"
    )


def _below(folder: Path) -> list[str]:
    return [
        os.path.join(parent, name)
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
    ]
