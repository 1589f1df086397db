"""Say where very short responses are chosen more than others are."""

import numpy as np
from numpy.typing import NDArray

# Response tokens below which the mean over them is that of a few words.
FEW_TOKENS = 10
# So many of the rows chosen, and so many times their share of all, before it is worth saying.
_LEAST, _TIMES = 5, 2


def short_note(n_tokens: NDArray[np.integer], chosen: NDArray[np.bool_]) -> str | None:
    """A warning where the rows `chosen` are short at least twice as often as all of them.

    `n_tokens` (rows,): response tokens of each scored row; `chosen` (rows,): which are meant.
    A mean over few tokens varies more, so that such rows come first and last by chance.
    """
    short = n_tokens < FEW_TOKENS
    count, of = int((short & chosen).sum()), int(chosen.sum())
    if count < _LEAST or count / of < _TIMES * short.mean():
        return None
    return (
        f"warning: {count:,} of the {of:,} rows chosen have fewer than {FEW_TOKENS} response "
        f"tokens, against {short.mean():.0%} of all scored rows; a mean over so few varies most, "
        "so that they may be chosen for being short: look at them (n_tokens in the score table)"
    )
