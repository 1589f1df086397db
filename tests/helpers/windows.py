"""What Windows does otherwise, for tests on systems that do not."""

import os
import stat
from typing import Any

import pytest


def refuse_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a folder be opened no longer as a file is."""
    native = os.open

    def opened(path: Any, *arguments: Any, **named: Any) -> int:
        if os.path.exists(path) and stat.S_ISDIR(os.stat(path).st_mode):
            raise PermissionError(13, "Permission denied")
        return native(path, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)
