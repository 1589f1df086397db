"""What the loopback hub answers where it refuses, and which bytes a request asks for."""

import re


class Refused(Exception):
    """An answer other than the one that was asked for."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"X-Error-Message": message}
        if code is not None:
            self.headers["X-Error-Code"] = code


def byte_range(stated: str | None, size: int) -> tuple[int, int]:
    """First byte and the one after the last, of a Range header."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", stated or "")
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if int(first) >= size:
        raise Refused(416, None, "the range lies beyond the file")
    return int(first), min(size, int(last) + 1) if last else size
