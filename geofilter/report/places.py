"""Names in place of paths: a report is passed on, and the folders it was made in are not."""

import re

# A path from the root, from a home or upwards. One that follows a letter or a colon belongs to
# an address or to a relative path, which says nothing of the machine.
_FOLDERS = re.compile(r"(?<![\w:/.~-])(?:~[\w.-]*|\.\.?)?/(?:[^\s/:;,'\"()]+/)*(?=[^\s/])")
_DRIVE = re.compile(r"\b[A-Za-z]:\\(?:[^\s\\:;,'\"()]+\\)*")


def named(place: str) -> str:
    """The last part of a path, with what follows it (a line, a row); addresses stay whole."""
    if "://" in place:
        return place
    return re.split(r"[/\\]", place.rstrip("/\\"))[-1] or place


def without_folders(sentence: str) -> str:
    """A sentence of our own with the last parts of the absolute paths that it names."""
    return _DRIVE.sub("", _FOLDERS.sub("", sentence))
