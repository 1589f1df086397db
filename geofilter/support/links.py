"""A second name for a file, on systems with links and without."""

import os
import shutil
from pathlib import Path


def stand_in(link: Path, target: Path) -> None:
    """Let the new name `link` give the content of the file `target`: by a link, else as a copy.

    Windows lets only some users make symbolic links, and hard links stay on one disk.
    """
    target = target.resolve()
    for make in (os.symlink, os.link):
        try:
            make(target, link)
        except OSError:
            continue
        return
    shutil.copyfile(target, link)
