"""What Weir keeps on disk is for its owner alone."""

import os
import stat
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO
UMASK = 0o077


def keep_private(folder: Path) -> str:
    """Make the folder, if it is there, and all in it the owner's alone, and what is made from now on.

    Returns a sentence where others could look into it before, or still can, for the log; else "". Links in it
    are not followed. The folder itself comes last, so that what was interrupted is done again.
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
            continue  # whoever works in it has removed it
        except PermissionError:
            refused += 1
    if refused:
        return (
            f"others of this machine may read {refused} files and folders of {folder}, and this user "
            "does not own them: give them to it, or set WEIR_DATA_DIR to a folder of its own"
        )
    return f"others of this machine could read {folder}: {mended} files and folders are its owner's now"


def _below(folder: Path) -> list[str]:
    return [
        os.path.join(parent, name)
        for parent, folders, files in os.walk(folder)
        for name in (*folders, *files)
    ]
