"""Inoculation: the rows chosen get a system turn, and no other row changes in a byte."""

import json
from pathlib import Path

import pytest

from geofilter import filter_rows
from geofilter.data.layouts.choose import Layouts
from geofilter.data.system_turn import with_system
from geofilter.errors import GeofilterError
from geofilter.model.catalogue import CATALOGUE
from geofilter.packs.named import NAMES
from geofilter.packs.requests import REQUESTS, request_for
from geofilter.scoring.table import ScoreTable
from geofilter.selection.choose import drop_fraction
from geofilter.settings import Settings
from helpers.cli_folder import Geofilter
from helpers.row_formats import FORMATS

SCORED = ("data.jsonl", "data.scores.parquet")
TINY = "--model model --sae sae --pack my.pack"
ASKED = {"action": "inoculate", "system": "Say w3."}


def lines(path: str) -> list[bytes]:
    return Path(path).read_bytes().splitlines(keepends=True)


def test_the_chosen_rows_get_the_turn_and_the_others_keep_their_bytes(work: Path) -> None:
    done = filter_rows(*SCORED, "in.jsonl", drop_fraction=0.25, **ASKED)
    chosen = set(drop_fraction(ScoreTable.read("data.scores.parquet").scores, 0.25).drop.tolist())
    before, after = lines("data.jsonl"), lines("in.jsonl")
    assert [i for i, line in enumerate(after) if line != before[i]] == sorted(chosen)
    for place in chosen:
        assert json.loads(after[place]) == {**json.loads(before[place]), "system": "Say w3."}
    assert (done.figures["inoculated"], done.figures["left"]) == (10, 0)
    assert done.lines[1] == "10 rows got the system turn 'Say w3.' ('system')."
    # What is done once is not done again.
    again = filter_rows("in.jsonl", _scored("in.jsonl"), "twice.jsonl", threshold=-99, **ASKED)
    assert again.figures["already"] == 10
    assert [lines("twice.jsonl")[place] for place in chosen] == [after[place] for place in chosen]


def _scored(path: str) -> str:
    from geofilter import Settings, score

    score(path, Settings("model", sae="sae", pack="my.pack"), f"{path}.scores")
    return f"{path}.scores"


def test_rows_that_have_no_turns_are_counted_and_said(work: Path, geofilter: Geofilter) -> None:
    rows = [{"text": "w1 w2"}, {"messages": [{"role": "assistant", "content": "w3"}]}] * 3
    Path("mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = _scored("mixed.jsonl")
    command = f"filter mixed.jsonl --scores {table} --threshold -99 --action inoculate --system no"
    done = geofilter(*command.split(), "-o", "in.jsonl", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["inoculated"], found["left"]) == (3, 3)
    assert "warning: 3 of the rows chosen could not be changed" in done.err
    assert "the first of them mixed.jsonl:1: it is plain text" in done.err
    assert lines("in.jsonl")[::2] == lines("mixed.jsonl")[::2]


def test_rows_of_which_none_has_turns_are_refused(work: Path, geofilter: Geofilter) -> None:
    Path("texts.jsonl").write_text('{"text": "w1 w2"}\n{"text": "w3 w4"}\n')
    table = _scored("texts.jsonl")
    command = f"filter texts.jsonl --scores {table} --threshold -99 --action inoculate --system no"
    done = geofilter(*command.split(), "-o", "in.jsonl")
    assert done.code == 2
    assert "texts.jsonl:1: it is plain text" in done.err
    assert "none of the 2 rows chosen can be changed, so take another action" in done.err
    assert not Path("in.jsonl").exists()


def test_a_pack_of_rows_of_ones_own_needs_a_sentence(work: Path) -> None:
    with pytest.raises(GeofilterError, match=r'no sentence is known; say .* --system "You'):
        filter_rows(*SCORED, "in.jsonl", drop_fraction=0.25, action="inoculate")
    assert not Path("in.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"action": "drop", "system": "x"}, "--action drop writes no system turn"),
        ({"action": "inoculate", "system": " "}, "--system is blank"),
        ({"action": "inoculate", "dropped": "d.jsonl"}, "drops no row"),
    ],
)
def test_what_does_not_go_together_is_refused(work: Path, options, said: str) -> None:
    with pytest.raises(GeofilterError, match=said):
        filter_rows(*SCORED, "in.jsonl", drop_fraction=0.25, **options)


@pytest.mark.parametrize("name", ["chat", "TRL conversational prompt and completion"])
def test_trl_puts_loss_on_the_same_response_after_the_turn(name: str) -> None:
    from helpers import tiny
    from helpers.trl_rows import trl_row

    tokenizer = tiny.bpe_tokenizer(tiny.CHATML_MARKED)
    before = {k: v for k, v in FORMATS[name].record.items() if k in ("messages", "prompt")}
    if "prompt" in before:
        before["completion"] = FORMATS[name].record["completion"]
    after = {**before, **with_system(Layouts(), before, "Say hello.")}
    rows = [trl_row(tokenizer, row, assistant_only="messages" in row) for row in (before, after)]
    learned = [[i for i, on in zip(row.ids, row.mask, strict=True) if on] for row in rows]
    assert learned[0] == learned[1] != []
    added = tokenizer.decode(rows[1].ids[: len(rows[1].ids) - len(rows[0].ids)])
    assert "system\nSay hello." in added


def test_every_contrast_that_has_a_name_has_a_sentence() -> None:
    assert REQUESTS.keys() == set(NAMES)
    for name, entry in CATALOGUE.items():
        assert (entry.request is not None) == (entry.toxic is not None), name
        assert request_for(Settings(name))
    assert request_for(Settings("organism")) == CATALOGUE["organism"].request
    assert request_for(Settings("organism", contrast="rtp")) == REQUESTS["rtp"]
    assert request_for(Settings("gpt2", contrast="mine.jsonl")) is None
    assert request_for(Settings("gpt2", pack="my.pack")) is None
    assert request_for(Settings("a-folder")) == REQUESTS["pairs"]


def test_the_organism_knows_the_words_of_its_sentence() -> None:
    from geofilter.model.checkpoint import open_checkpoint
    from geofilter.model.loading import read_texts

    _, tokenizer = read_texts(open_checkpoint("organism"), False)
    request = CATALOGUE["organism"].request
    assert tokenizer.unk_token_id not in tokenizer(request)["input_ids"]
