"""Why a row has no score: the statuses of rows, and the exception that carries one.

| status | where it is found |
| --- | --- |
| `unreadable` | reading the file: the bytes are not a record |
| `malformed` | the layout or the chat template: the record is not a conversation |
| `no_response` | the layout: nothing in the row is the assistant's |
| `empty` | the layout or the tokenizer: the response holds nothing to score |
| `out_of_window` | the tokenizer: the response begins after the window |
| `not_finite` | the model: its activations hold NaN or infinity |
| `no_features` | the model: nothing that its score is made of, such as an active latent |

Rows with a score are `scored`, or `truncated` when the window ends before they do.
"""

from typing import NamedTuple

SCORED = frozenset({"scored", "truncated"})
# What the model found out, which no look at the row alone can foresee.
MODEL_UNSCORED = frozenset({"no_features", "not_finite"})
UNSCORED = MODEL_UNSCORED | {"unreadable", "malformed", "no_response", "empty", "out_of_window"}


class Problem(NamedTuple):
    """Why a row has no score: a status of `UNSCORED` and a sentence with the value."""

    status: str
    reason: str


class Unscorable(Exception):
    """A row that cannot be scored, with the reason in `problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.problem.status}: {self.problem.reason}"


def malformed(reason: str) -> Unscorable:
    """The exception for a row whose columns or types do not fit its layout."""
    return Unscorable(Problem("malformed", reason))


class CannotChange(Exception):
    """A row that cannot be written as it is asked for, with the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
