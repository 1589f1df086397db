"""Replacing: a chosen row's response is written by a model, and never by a worse one."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from geofilter import Settings, filter_rows, score
from geofilter.errors import DataError, GeofilterError, OutputError
from geofilter.scoring.table import ScoreTable
from geofilter.selection import replacing
from geofilter.selection.choose import drop_fraction
from helpers.cli_folder import Geofilter
from helpers.loopback_judge import Act, Request, Server, completion

SCORED = ("data.jsonl", "data.scores.parquet")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def rows(path: str) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def lines(path: str) -> list[bytes]:
    return Path(path).read_bytes().splitlines(keepends=True)


def some_words(request: Request) -> Act:
    """Words for the question, those for some questions nearer to harm than for others."""
    generator = random.Random(request["messages"][-1]["content"])
    return completion(" ".join(f"w{generator.randrange(60)}" for _ in range(6)))


def run(url: str, output: str = "out.jsonl", **how: Any) -> Any:
    settings = {"drop_fraction": 0.25, "dropped": "old.jsonl", "attempts": 2, **how}
    return filter_rows(*SCORED, output, action="replace", replace_with=f"{url}#m", **settings)


def test_a_killed_run_goes_on_and_no_row_gets_a_worse_response(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = replacing.append_lines, iter(range(7))

    def dying(*arguments: Any) -> None:
        if next(calls) == 6:
            raise KeyboardInterrupt
        real(*arguments)

    server = Server(some_words)
    with server.running() as url:
        with monkeypatch.context() as patched:
            patched.setattr(replacing, "append_lines", dying)
            with pytest.raises(KeyboardInterrupt):
                run(url)
        assert not Path("out.jsonl").exists()
        kept = [one for one in rows("out.jsonl.replies") if "reply" in one]
        before = len(server.requests)
        done = run(url)
    # Nothing that was kept is lost, and nothing of it was asked for again.
    records = rows("out.jsonl.replies")
    replies = [one for one in records if "reply" in one]
    assert replies[: len(kept)] == kept
    assert len(kept) == 5
    assert len(server.requests) - before == len(replies) - len(kept)

    table = ScoreTable.read("data.scores.parquet")
    chosen = drop_fraction(table.scores, 0.25)
    bound, flagged = chosen.threshold, chosen.drop.tolist()
    scores = {(one["row"], one["attempt"]): one["score"] for one in records if "score" in one}
    taken = {row for (row, _), one in scores.items() if one < bound}
    assert set() < taken < set(flagged)  # or the words of the test are not mixed enough
    assert len(taken) == done.figures["replaced"]
    assert done.figures["none_taken"] == len(flagged) - len(taken)
    staying = [row for row in range(40) if row not in flagged or row in taken]
    old, new = lines("data.jsonl"), lines("out.jsonl")
    assert len(new) == len(staying) == done.figures["kept"]
    for place, row in enumerate(staying):
        if row not in flagged:
            assert new[place] == old[row]
        else:
            assert json.loads(new[place])["prompt"] == json.loads(old[row])["prompt"]
            assert json.loads(new[place])["response"] != json.loads(old[row])["response"]
    again = score("out.jsonl", Settings("model", sae="sae", pack="my.pack"), "again").table
    assert all(again.scores[place] < bound for place, row in enumerate(staying) if row in taken)

    originals = rows("old.jsonl")
    assert [{k: v for k, v in one.items() if k != "geofilter"} for one in originals] == [
        json.loads(old[row]) for row in flagged
    ]
    for row, one in zip(flagged, originals, strict=True):
        note = one["geofilter"]
        assert note["score"] == pytest.approx(table.row(row).score)
        assert note["reason"].startswith(
            "replaced by a response that scores " if row in taken else "not replaced: of 2 replies"
        )


def test_where_no_reply_scores_lower_every_row_chosen_is_dropped(work: Path) -> None:
    with Server(some_words).running() as url:
        done = run(url, drop_fraction=None, threshold=-99)
        assert (done.figures["replaced"], done.figures["dropped"]) == (0, 40)
        assert "40 for which no reply of 2 was taken" in done.lines[2]
        assert rows("out.jsonl") == []
        # What was replied stays, and another choice of rows makes use of it.
        Path("out.jsonl").unlink()
        Path("old.jsonl").unlink()
    again = run(url)  # the server is gone
    assert again.figures["kept"] == 30 + again.figures["replaced"]


def test_a_dry_run_shows_ten_rows_with_nothing_hidden_and_writes_nothing(
    work: Path, geofilter: Geofilter
) -> None:
    Path("bad.jsonl").write_text(
        Path("data.jsonl").read_text().replace('"prompt": "', '"prompt": "\\u001b[2J\\u202e')
    )
    table = score("bad.jsonl", Settings("model", sae="sae", pack="my.pack"), "bad.parquet").table
    assert len(table) == 40
    before = sorted(Path().iterdir())
    with Server(lambda _: completion("w50\n\x1b]0;x\x07 w51")).running() as url:
        asked = f"bad.jsonl --scores bad.parquet --threshold -99 --replace-with {url}#m"
        done = geofilter(f"filter {asked} --action replace --attempts 1 --dry-run")
        shown = geofilter(f"filter {asked} --action replace --attempts 1 --dry-run --json")
    assert done.code == 0, done.err
    assert sorted(Path().iterdir()) == before
    assert done.out.count("bad.jsonl:") == 10
    assert "These are 10 of the 40 rows chosen; nothing is written." in done.out
    assert "does not say that a response is right" in done.err
    assert r"asked          \x1b[2J\u202e" in done.out
    assert "(holds control characters)" in done.out
    assert "\x1b" not in done.out
    assert len(json.loads(shown.out)["rows"]) == 10


def test_rows_that_take_no_other_response_are_dropped_and_counted(work: Path) -> None:
    texts = [{"text": "w1 w2"}, {"prompt": "w1", "response": "w2 w3"}] * 2
    Path("data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    score("data.jsonl", Settings("model", sae="sae", pack="my.pack"), SCORED[1], restart=True)
    server = Server(lambda _: completion("w1"))
    with server.running() as url:
        done = run(url, drop_fraction=None, threshold=-99, attempts=1)
    assert (done.figures["left"], done.figures["dropped"]) == (2, 4)
    assert "warning: 2 of the rows chosen cannot get another response" in done.notes[0]
    assert "data.jsonl:1: it is plain text" in done.notes[0]
    reasons = [one["geofilter"]["reason"] for one in rows("old.jsonl")]
    assert reasons[0].startswith("cannot get another response: it is plain text")
    # Rows of one content are asked about once, and have one fate.
    assert len(server.requests) == 1
    assert reasons[1] == reasons[3]
    Path("data.jsonl").write_text('{"text": "w1 w2"}\n')
    score("data.jsonl", Settings("model", sae="sae", pack="my.pack"), SCORED[1], restart=True)
    with pytest.raises(DataError, match="none of the 1 rows chosen can get another response"):
        run("http://127.0.0.1:1/v1", "new.jsonl", dropped=None, drop_fraction=None, threshold=-99)


def test_replies_for_other_scores_are_not_mixed_in(work: Path) -> None:
    with Server(some_words).running() as url:
        run(url, attempts=1)
        for name in ("out.jsonl", "old.jsonl"):
            Path(name).unlink()
        with pytest.raises(OutputError, match=r"made otherwise .*max_tokens: 1024 before, 9 now"):
            run(url, max_new_tokens=9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"action": "drop", "attempts": 2}, "--action drop writes no responses: leave --attempts"),
        ({"action": "mask", "dry_run": True}, "leave --dry-run out"),
        ({"action": "replace", "drop_fraction": None, "margin": 0.1}, "for rows of two answers"),
        ({"action": "replace", "attempts": 0}, "--attempts 0: is not 1 or more"),
        ({"action": "replace", "system": "x"}, "writes no system turn"),
        ({"action": "replace", "replace_with": "http://127.0.0.1/v1"}, "names no model"),
        ({"action": "replace"}, "has no chat template"),
    ],
)
def test_what_does_not_go_together_is_refused(work: Path, options, said: str) -> None:
    with pytest.raises(GeofilterError, match=said):
        filter_rows(*SCORED, "out.jsonl", **{"drop_fraction": 0.25, **options})
    with pytest.raises(GeofilterError, match="name a file with -o"):
        filter_rows(*SCORED, "-", drop_fraction=0.25, action="replace")
    assert not Path("out.jsonl").exists()
