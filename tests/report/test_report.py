"""The report: what it reads, its markup, its page, and the command."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofilter.data.encoder import Placed
from geofilter.errors import DataError, TableError
from geofilter.report import contents, places, row_texts
from geofilter.report.document import POLICY, policy_for
from geofilter.report.explained import Activated, activated, as_written, strengths
from geofilter.report.page import SCRIPT, render
from geofilter.report.write import write
from geofilter.scoring.explanation import ExplainedToken, Explanation, TokenLatent
from geofilter.selection import choose
from helpers.fresh_process import type_command
from helpers.markup import Seen
from helpers.report_payloads import PAYLOADS
from helpers.report_tables import score_by_hand, write_jsonl

# Reading


def test_no_pack_is_fetched_because_a_table_names_one(tmp_path, monkeypatch):
    data = write_jsonl(tmp_path / "d.jsonl", [{"prompt": "a", "response": "b"}] * 3)
    rows, table = score_by_hand(data, [0.1, 0.2, 0.3], tmp_path / "s.parquet")
    table.manifest.facts["settings"]["pack"] = "hf://org/pack"
    asked = []
    monkeypatch.setattr("geofilter.packs.pack.fetch_pack", lambda *place: asked.append(place))
    assert contents.gather(rows, table).labels == {}
    assert asked == []


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("plain words", "Latin"),
        ("Größe", "Latin"),
        ("Привет, мир", "Cyrillic"),
        ("你好，世界", "Han"),
        ("こんにちは", "Japanese kana"),
        ("مرحبا", "Arabic"),
        ("안녕하세요", "Hangul"),
        ("नमस्ते", "Devanagari"),
        ("1 + 1 = 2 !", "no letters"),
        ("", "no letters"),
        ("\ud800\U000e0001", "no letters"),
        ("one слово", "Cyrillic"),
    ],
)
def test_a_script_is_that_of_most_letters(text, script):
    assert row_texts.script_of(text) == script


def test_a_group_is_the_value_of_a_column_and_what_is_missing_is_one_too(tmp_path):
    records = [
        {"prompt": "p", "response": "r", "source": "a"},
        {"prompt": "p", "response": "r", "source": None, "topic": [1, 2]},
        {"prompt": "p", "response": "ы", "topic": "a"},
    ]
    rows, _ = score_by_hand(
        write_jsonl(tmp_path / "d.jsonl", records), [1.0, 2.0, 3.0], tmp_path / "s.parquet"
    )
    found = {
        g.column: [g.names[code] for code in g.codes] for g in row_texts.read(rows, ()).groupings
    }
    assert found == {"source": ["a", "(none)", "(none)"], "script": ["Latin", "Latin", "Cyrillic"]}
    (topic, _) = row_texts.read(rows, (), by=["topic"]).groupings
    assert [topic.names[code] for code in topic.codes] == ["(none)", "[1, 2]", "a"]
    with pytest.raises(DataError, match=r"no row has a column topics; give --by"):
        row_texts.read(rows, (), by=["topics"])


@pytest.mark.slow
def test_a_text_longer_than_memory_should_hold_is_shown_cut(tmp_path):
    data = tmp_path / "d.jsonl"
    huge = "a<b>" * 18_000_000
    with data.open("w") as file:
        file.write(json.dumps({"prompt": "p", "response": huge}) + "\n")
        file.write(json.dumps({"prompt": "p", "response": huge[: 2**20]}) + "\n")
        file.write('{"prompt": ' + "[" * 5000 + "\n")
    rows, table = score_by_hand(data, [None, 0.5, None], tmp_path / "s.parquet")
    found = contents.gather(rows, table)
    assert write(found, tmp_path / "r.html") < 200_000
    texts = found.read.texts
    assert all(
        len(turn.text) <= row_texts.ROW_CHARACTERS for row in texts.values() for turn in row.turns
    )
    assert "longer than" in texts[0].turns[0].text
    assert texts[1].turns[1].cut


# Tokens


def test_what_a_row_activated_is_summed_by_toxic_feature():
    def token(position, text, *parts):
        latents = tuple(
            TokenLatent(1, 2.0, 0.9, feature, similarity, ("word",), part)
            for feature, similarity, part in parts
        )
        return ExplainedToken(position, text, sum(part for _, _, part in parts), latents)

    tokens = (
        token(3, "a", (5, 0.5, 0.25), (6, 0.25, 0.5)),
        token(4, " b", (5, 0.75, 0.5)),
        token(9, "a", (6, 0.125, 0.5)),
    )
    assert activated(tokens) == [
        Activated(6, ("word",), 1.0, 0.25, ("a",)),
        Activated(5, ("word",), 0.75, 0.75, ("b", "a")),
    ]


@given(st.lists(st.tuples(st.text("aé 😀\n", max_size=4), st.booleans()), max_size=12))
def test_pieces_of_a_text_put_together_are_the_text(pieces):
    # Each piece as the tokens of one word or as the bytes of one character: with the same place.
    text, tokens, offsets = "", [], []
    for piece, twice in pieces:
        # The place of a word does not hold the blanks that lead up to it.
        start = len(text) + len(piece) - len(piece.lstrip())
        text += piece
        for _ in range(1 + (twice and start < len(text))):
            tokens.append(ExplainedToken(len(tokens), "▁##?", 0.5))
            offsets.append((start, len(text)))
    found = as_written(tokens, Placed(text, np.array(offsets, np.int64).reshape(-1, 2)))
    written = "".join(token.text for token in found if token.text != "▁##?")
    assert written in text
    assert written.split() == text.split()
    assert sum(token.contribution for token in found) == len(tokens) / 2
    assert [token.position for token in found] == list(range(len(found)))


def test_text_between_tokens_that_is_left_out_is_a_gap_and_blanks_are_none():
    placed = Placed("one two  three", np.array([(0, 3), (4, 7), (9, 14)]))
    shown = [ExplainedToken(place, "?", 0.25) for place in (0, 2)]
    assert [(t.position, t.text) for t in as_written(shown, placed)] == [(0, "one"), (2, "three")]
    shown.insert(1, ExplainedToken(1, "?", 0.25))
    assert [t.text for t in as_written(shown, placed)] == ["one", " two", "  three"]


@pytest.mark.parametrize("few", [3, 40])
def test_the_page_says_where_what_would_go_is_very_short_more_often_than_the_rest(tmp_path, few):
    data = write_jsonl(tmp_path / "data.jsonl", [{"prompt": "p", "response": "a"}] * 60)
    lengths = [few] * 10 + [40] * 50
    scores = [float(n) for n in range(60, 0, -1)]
    rows, table = score_by_hand(data, scores, tmp_path / "s.parquet", lengths=lengths)
    chosen = choose.drop_fraction(table.scores, 0.2)
    page = "".join(render(contents.gather(rows, table, chosen=chosen)))
    said = "10 of the 12 rows chosen have fewer than 10 response tokens, against 17% of all"
    assert (said in page.partition('id="limits"')[2]) == (few == 3)


def test_a_token_is_as_dark_as_one_of_another_row_that_pulls_as_much(tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", [{"prompt": "p", "response": "a"}] * 20)
    rows, table = score_by_hand(data, [1.0] * 20, tmp_path / "s.parquet")
    short = Explanation(1.0, (ExplainedToken(0, "short", 1.0),))
    long = Explanation(
        1.0, tuple(ExplainedToken(p, f"long{p}", (4.0, 1.0, 0.0, 0.0)[p] / 4) for p in range(4))
    )
    assert strengths(long) == [4.0, 1.0, 0.0, 0.0]
    found = dataclasses.replace(contents.gather(rows, table), explained={0: short, 1: long})
    page = "".join(render(found))
    dark, light = (page.partition(f"{word}</mark>")[0][-4:] for word in ("long0", "long1"))
    assert dark == 'h4">'
    assert page.partition("short</mark>")[0].endswith(light)
    assert light != dark


def test_tokens_follow_each_other_and_a_gap_between_them_is_shown(tmp_path):
    records = [{"prompt": "p", "response": "a b a"}]
    data = write_jsonl(tmp_path / "data.jsonl", records)
    rows, table = score_by_hand(data, [1.0], tmp_path / "s.parquet")
    placed = ((3, "a"), (4, " b"), (9, "a"))
    tokens = tuple(ExplainedToken(place, text, 0.5, ()) for place, text in placed)
    found = contents.gather(rows, table)
    found = dataclasses.replace(found, explained={0: Explanation(1.0, tokens)})
    assert "response, by tokensa b ⋯ a" in Seen("".join(render(found))).text


def test_no_folder_of_this_machine_is_in_the_page(work, geofilter):
    asked = f"report {work}/data.jsonl --scores {work}/data.scores.parquet --threshold 0"
    assert geofilter(f"{asked} --no-model -o {work}/r.html").code == 0
    assert str(work.parent) not in Path("r.html").read_text("utf-8")
    assert places.without_folders("a/b of /tmp/x/y.jsonl, hf://org/set (~/m/n) and C:\\a\\b.c") == (
        "a/b of y.jsonl, hf://org/set (n) and b.c"
    )


@pytest.fixture
def hostile(tmp_path: Path) -> contents.Contents:
    n = len(PAYLOADS)
    records = [
        {"prompt": PAYLOADS[row], "response": PAYLOADS[-row - 1], "source": PAYLOADS[row % 7]}
        for row in range(n)
    ]
    scores = [None if row % 9 == 0 else (row * 31 % 97) / 97 for row in range(n)]
    data = write_jsonl(tmp_path / "data.jsonl", records)
    rows, table = score_by_hand(data, scores, tmp_path / "s.parquet", reason=PAYLOADS[1])
    return contents.gather(rows, table, chosen=choose.drop_fraction(table.scores, 0.25))


def test_a_page_of_hostile_rows_holds_the_elements_of_a_page_of_tame_ones(hostile):
    seen = Seen("".join(render(hostile)))
    known = (
        "html head meta link title style body a header p h1 h2 h3 bdi dl div dt dd b small nav ul "
        "li main section figure svg path span details summary table caption thead tbody tr th td "
        "em article strong pre code footer mark script"
    )
    assert set(seen.elements) <= set(known.split())
    assert seen.elements.count("link") == seen.elements.count("style") == 1
    assert seen.elements.count("script") == 2
    assert seen.scripts[1] == SCRIPT
    assert {value for name, value in seen.attributes if name == "href"} <= {
        "data:,", "#scores", "#origins", "#length", "#baseline", "#topics", "#decide", "#rows",
        "#limits", "#run",
    }  # fmt: skip
    assert ("content", policy_for(SCRIPT)) in seen.attributes
    assert policy_for(SCRIPT).startswith(f"{POLICY}; script-src 'sha256-")
    assert policy_for(SCRIPT) != policy_for(SCRIPT + " ")
    assert "<script src=http://127.0.0.1:9/14.js></script>" in seen.text


def test_equal_contents_give_equal_bytes(hostile, tmp_path):
    write(hostile, tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text("utf-8") == "".join(render(hostile))


def test_the_page_calls_nothing_safe(hostile):
    assert "safe" not in Seen("".join(render(hostile))).text.lower()


# The whole


def page_of(folder: Path, records, scores, **asked) -> str:
    data = write_jsonl(folder / "data.jsonl", records)
    rows, table = score_by_hand(data, scores, folder / "s.parquet")
    return Seen("".join(render(contents.gather(rows, table, **asked)))).text


def test_rows_without_a_score_are_counted_and_shown_with_their_reason(tmp_path):
    records = [{"prompt": "p", "response": f"answer {row}"} for row in range(8)]
    said = page_of(tmp_path, records, [None, *map(float, range(1, 7)), None])
    assert "Anything about 2 of 8 rows" in said
    assert said.count("nothing there") == 2
    assert "answer 7" in said


@pytest.mark.parametrize("scores", [[], [None], [0.5], [0.5] * 30, [None] * 5])
def test_a_page_can_be_made_of_little(tmp_path, scores):
    records = [{"prompt": "p", "response": "r"} for _ in scores]
    assert "What this run cannot tell" in page_of(tmp_path, records, scores)


@pytest.mark.parametrize("scorer", ["nearest", "persona"])
def test_scores_that_read_no_features_are_not_said_to_come_from_features(tmp_path, scorer):
    data = write_jsonl(tmp_path / "data.jsonl", [{"prompt": "p", "response": "r"}] * 4)
    rows, table = score_by_hand(data, [1.0, 2.0, 3.0, 4.0], tmp_path / "s.parquet", scorer=scorer)
    found = contents.gather(rows, table)
    columns = dataclasses.replace(found.columns, explained_variance=np.full(4, 0.5))
    page = "".join(render(dataclasses.replace(found, columns=columns)))
    reads = scorer == "nearest"
    said = ("raised this row&#x27;s score most", "What the SAE does not see", "#baseline")
    assert [one in page for one in said] == [reads] * 3
    assert ("Features that were active" in page) != reads


def test_the_run_names_what_weights_were_rounded_to_and_nothing_that_it_has_not(tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", [{"prompt": "p", "response": "r"}])
    rows, table = score_by_hand(data, [1.0], tmp_path / "s.parquet")
    for model, asked, said in (
        ({"weights": "0f"}, {}, None),
        ({"weights": "0f-Q4_1+Q8_0"}, {}, "the file's own (Q4_1+Q8_0)"),
        ({"weights": "0f-4bit"}, {"load_in": "4bit"}, "rounded to4bit"),
    ):
        table.manifest.decides.update({"model": model} | asked)
        page = Seen("".join(render(contents.gather(rows, table)))).text
        assert ("weights rounded to" in page) == (said is not None)
        assert said is None or said in page
        assert "revisions" not in page


def test_a_baseline_of_other_data_is_refused(tmp_path):
    records = [{"prompt": "p", "response": "r"}] * 4
    data = write_jsonl(tmp_path / "data.jsonl", records)
    rows, table = score_by_hand(data, [1.0, 2.0, 3.0, 4.0], tmp_path / "s.parquet")
    other = write_jsonl(tmp_path / "other.jsonl", records[:3])
    _, wrong = score_by_hand(other, [1.0, 2.0, 3.0], tmp_path / "o.parquet")
    with pytest.raises(TableError, match=r"made from other data.*; score the same data"):
        contents.gather(rows, table, baseline=wrong)


# The command

REPORT = "report data.jsonl --scores data.scores.parquet"


def test_the_tokens_of_a_marked_row_sum_to_its_score(work, geofilter):
    from geofilter.runs.prepare import prepare_again
    from geofilter.runs.provenance import open_scored
    from geofilter.scoring.table import ScoreTable

    table = ScoreTable.read("data.scores.parquet")
    rows = open_scored("data.jsonl", table)
    found = contents.gather(
        rows, table, run=prepare_again(rows, table, purpose="marked"), explain=5
    )
    assert len(found.explained) == 5
    for row, explained in found.explained.items():
        assert isinstance(explained, Explanation)
        parts = explained.base + sum(token.contribution for token in explained.tokens)
        assert parts == pytest.approx(float(table.scores[row]), abs=1e-5)


def test_report_marks_tokens_and_names_what_was_measured(work, geofilter):
    done = geofilter(f"{REPORT} --drop-fraction 0.25 --explain 3 -o r.html --json")
    summary = json.loads(done.out)
    assert (summary["rows"], summary["dropped"], summary["explained"]) == (40, 10, 3)
    page = Path("r.html").read_text("utf-8")
    assert summary["bytes"] == len(page.encode())
    assert page.count("response, by tokens") == 3
    assert "<mark" in page
    assert "10 of 40" in page
    assert "<bdi>persona</bdi>" in page


@pytest.mark.slow
def test_report_does_without_the_model_and_says_why(work, geofilter):
    done = geofilter(f"{REPORT} --no-model -o r.html")
    said = "geofilter: data.jsonl: 40 rows read as prompt-response (prompt, response)\n"
    assert (done.code, done.err) == (0, said)
    page = Path("r.html").read_text("utf-8")
    assert "<mark" not in page
    assert "the model was not loaded" in page
    scored = "--model model --sae sae --pack my.pack -o new.parquet"
    assert geofilter(f"score data.jsonl {scored}").code == 0
    Path("model/config.json").unlink()
    done = geofilter("report data.jsonl --scores new.parquet -o s.html")
    assert done.code == 0
    assert "no tokens are marked: " in done.err
    assert "No tokens are marked: " in Path("s.html").read_text("utf-8")


@pytest.mark.slow
def test_report_without_the_model_loads_no_model_library(work):
    program = (
        "import sys; from geofilter.cli.main import main; code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'transformers', 'faiss', 'sae_lens', 'scipy'} & set(sys.modules)\n"
        "print(code, sorted(heavy), file=sys.stderr)"
    )
    words = f"{REPORT} --drop-fraction 0.25 --no-model -o r.html"
    done = type_command(words, work, {}, ("-c", program))
    assert done.err.splitlines()[-1] == "0 []"
    # The labels of the pack are read, too.
    assert "words, if toxic" in Path("r.html").read_text("utf-8")


def test_report_compares_with_another_scorer(work, geofilter):
    persona = "--model model --sae sae --pack my.pack --scorer persona -o p.parquet"
    assert geofilter(f"score data.jsonl {persona}").code == 0
    assert geofilter(f"{REPORT} --baseline p.parquet --no-model -o r.html").code == 0
    page = Path("r.html").read_text("utf-8")
    assert "rank by persona" in page
    assert "persona.parquet" not in page


def test_the_package_ships_the_style_and_the_script_of_the_page():
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["geofilter.report"]
    report = Path(contents.__file__).parent
    shipped = {path for pattern in patterns for path in report.glob(pattern)}
    assert {path.suffix for path in shipped} == {".css", ".js"}
    assert shipped == {*report.rglob("*.css"), *report.rglob("*.js")}


def test_report_shows_a_bounded_choice_with_its_promise(work, geofilter):
    asked = "--fdr 0.7 --reference other.jsonl --no-model -o r.html"
    assert geofilter(f"{REPORT} {asked}").code == 0
    page = Seen(Path("r.html").read_text("utf-8")).text
    assert "a share of at most 0.7 is clean, on average over references" in page
