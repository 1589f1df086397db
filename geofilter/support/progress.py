"""How long work reports how far it is.

One shape for all of it: `progress(phase, done, of)`. `phase` is a word or two for people
("discover", "score"), `done` counts from 0 or 1 up to `of`, and `of` is None where the end
is not known. Functions take `progress: Progress = no_progress` and call it now and then.
"""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]


def no_progress(phase: str, done: int, of: int | None) -> None:
    """Report to no one."""
