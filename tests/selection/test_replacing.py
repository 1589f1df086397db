"""Other responses are taken only where they score lower, and nothing is asked for twice."""

import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from geofilter.data.samples import Turn
from geofilter.errors import OutputError
from geofilter.selection.replacing import (
    REPLY_LIMIT,
    Ask,
    Candidate,
    Reply,
    ReplyLog,
    Scored,
    fault_of,
    replace_all,
)
from geofilter.support.manifest import Manifest

MADE = Manifest({"scores": "a", "writer": {"model": "m"}})
ROWS = [Candidate(row, (Turn("user", f"why {row}"),), "0.9") for row in range(10)]


class Stub:
    """Says for row and attempt what `says` has, and may break off after some replies."""

    name, at_once = "stub", 4

    def __init__(self, says: Any, breaks_after: int | None = None) -> None:
        self.says, self.left = says, breaks_after
        self.asked: list[tuple[int, int]] = []

    def describe(self) -> dict[str, object]:
        return {}

    def __call__(
        self, asks: Sequence[Ask], attempt: int, wanted: Collection[int]
    ) -> Iterator[tuple[int, Reply]]:
        for one in asks:
            if one.row in wanted:
                if self.left == 0:
                    raise KeyboardInterrupt
                self.left = None if self.left is None else self.left - 1
                self.asked.append((one.row, attempt))
                found = self.says(one.row, attempt)
                yield one.row, found if isinstance(found, Reply) else Reply(found)


def scores(texts: Sequence[tuple[int, str]]) -> list[Scored]:
    """A reply is the number that it says."""
    return [Scored(float(text), None) for _, text in texts]


def replaced(writer: Stub, log: ReplyLog | None = None, **how: Any) -> Any:
    log = log or ReplyLog(None, MADE)
    return replace_all(ROWS, log, writer, scores, **{"below": 0.5, "attempts": 3, **how})


def test_only_what_scores_below_the_bound_is_taken_and_asking_stops_there() -> None:
    # Row 0 at once, row 1 at the second time, row 2 never; equal to the bound is not below it.
    lowest = {0: [0.1], 1: [0.5, 0.2], 2: [0.7, 0.5, 0.6]}
    writer = Stub(lambda row, attempt: str(lowest.get(row, [0.0])[attempt]))
    found = replaced(writer)
    assert [found[row].text for row in (0, 1)] == ["0.1", "0.2"]
    assert all(found[row].taken == (row != 2) for row in found)
    assert (found[2].text, found[2].score) == ("0.5", 0.5)
    assert found[2].reason == (
        "not replaced: of 3 replies none is taken (scores 0.7; scores 0.5; scores 0.6)"
    )
    assert sorted(writer.asked) == sorted(
        [(row, 0) for row in range(10)] + [(1, 1), (2, 1), (2, 2)]
    )


HOSTILE = {
    "empty": (" \n", "is empty"),
    "invisible": ("​ ⁠", "is empty"),
    "the same": (" 0.9\n", "says the same"),
    "an escape": ("0.1\x1b[2J", "holds control characters"),
    "a null": ("0.1\x00", "holds control characters"),
    "half a character": ("0.1\ud800", "holds control characters"),
    "a refusal": ("I'm sorry, but I can't help with that.", "is a refusal"),
    "no AI": ("As an AI language model, I have no views.", "is a refusal"),
    "huge": ("0" * (REPLY_LIMIT + 1), "is longer than 100,000 characters"),
    "cut off": (Reply("0.1", "is cut off"), "is cut off"),
    "nothing": (Reply(None, "the model answered 400", lasting=True), "the model answered 400"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_reply_that_is_no_response_is_neither_scored_nor_taken(name: str, here: Path) -> None:
    said, why = HOSTILE[name]
    log = ReplyLog(Path("replies"), MADE)
    found = replaced(Stub(lambda row, attempt: said), log, attempts=1)
    assert not any(one.taken or one.score is not None for one in found.values())
    assert found[0].reason == f"not replaced: of 1 replies none is taken ({why})"
    assert Path("replies").stat().st_size < 20_000
    again = replaced(Stub(None), ReplyLog(Path("replies"), MADE), attempts=1)
    assert again == found


@pytest.mark.parametrize(
    "text",
    [
        "Sorry to hear that. You should rest.",
        "I can help you. You can't lose.",
        "No.\n\tDo not. 👩‍⚕️",
    ],
)
def test_words_of_regret_and_of_denial_alone_are_no_refusal(text: str) -> None:
    assert fault_of(text, "old") is None


@pytest.mark.parametrize("after", [1, 5, 9, 12])
def test_what_a_kill_left_is_gone_on_from_and_no_kept_reply_is_asked_for_again(
    here: Path, after: int
) -> None:
    def says(row: int, attempt: int) -> str:
        return str(0.8 - 0.2 * attempt - 0.05 * row)

    whole = replaced(Stub(says))
    first = Stub(says, breaks_after=after)
    with pytest.raises(KeyboardInterrupt):
        replaced(first, ReplyLog(Path("replies"), MADE))
    with Path("replies").open("a") as file:
        file.write('{"row": 3, "att')  # what a kill may leave
    second = Stub(says)
    assert replaced(second, ReplyLog(Path("replies"), MADE)) == whole
    assert len(first.asked) == after
    assert not set(first.asked) & set(second.asked)
    # Now that all is there, another choice of rows asks for nothing either.
    third = Stub(says)
    replaced(third, ReplyLog(Path("replies"), MADE), below=0.7)
    assert third.asked == []


def test_a_failure_that_may_pass_is_asked_about_again_by_the_next_run(here: Path) -> None:
    passing = Reply(None, "the model broke off, 5 times", lasting=False)
    replaced(Stub(lambda row, attempt: passing), ReplyLog(Path("replies"), MADE), attempts=1)
    writer = Stub(lambda row, attempt: "0.1")
    found = replaced(writer, ReplyLog(Path("replies"), MADE), attempts=1)
    assert len(writer.asked) == 10
    assert all(one.taken for one in found.values())


def test_replies_that_were_made_otherwise_or_are_damaged_are_refused(here: Path) -> None:
    replaced(Stub(lambda row, attempt: "0.1"), ReplyLog(Path("replies"), MADE))
    other = Manifest({"scores": "b", "writer": {"model": "m"}})
    with pytest.raises(OutputError, match=r'made otherwise \(scores: "a" before, "b" now\)'):
        ReplyLog(Path("replies"), other)
    for bad in ('{"row": "x"}', '{"row": 1, "attempt": 0, "reply": 3}', "[]", "{"):
        lines = Path("replies").read_text().splitlines()
        Path("bad").write_text("\n".join([lines[0], bad, *lines[1:]]) + "\n")
        with pytest.raises(OutputError, match="is damaged; remove it"):
            ReplyLog(Path("bad"), MADE)
    Path("bad").write_text(json.dumps({"row": 1}) + "\n")
    with pytest.raises(OutputError, match="is damaged; remove it"):
        ReplyLog(Path("bad"), MADE)
