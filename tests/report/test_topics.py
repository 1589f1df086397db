"""What would go, by topic, and which features are not in a reference."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geofilter.errors import TableError
from geofilter.report import contents
from geofilter.report.clusters import FEWEST, clusters, tfidf, words_of
from geofilter.report.differences import compare, newcombe
from geofilter.report.numbers import rate
from geofilter.report.page import render
from geofilter.selection.choose import drop_fraction
from helpers.markup import Seen
from helpers.report_payloads import PAYLOADS
from helpers.report_tables import score_by_hand, write_jsonl

TOPICS = (
    ["money", "bank", "loan", "interest"],
    ["dose", "pill", "doctor", "pain"],
    ["先问清楚", "大家同意", "办法", "事情"],
)


def written(n: int) -> list[str]:
    generator = random.Random(1)
    return [
        " ".join(generator.choices([*TOPICS[place % 3], "you", "the"], k=30)) for place in range(n)
    ]


def test_texts_of_three_topics_are_three_clusters_named_by_their_own_words():
    texts = written(60)
    found = clusters(texts)
    assert sorted(sorted(one.members) for one in found) == [
        list(range(start, 60, 3)) for start in range(3)
    ]
    for one in found:
        topic = TOPICS[one.members[0] % 3]
        assert one.terms
        assert set(one.terms) <= {word for text in topic for word in words_of(text)}
    assert clusters(texts) == found


@settings(max_examples=30)
@given(st.lists(st.sampled_from([*PAYLOADS, "", "a b", *written(9)]), max_size=30))
def test_each_text_is_in_one_topic_at_most(texts):
    found = [place for one in clusters(texts) for place in one.members]
    assert len(found) == len(set(found))
    assert set(found) <= set(range(len(texts)))
    assert len(texts) >= FEWEST or not found


def test_a_term_weighs_more_the_fewer_texts_have_it():
    texts = ["often rare", "often some", "often some", "rare", "none", "none"]
    vectors, terms = tfidf(texts)
    assert set(terms) == {"often", "rare", "some", "none"}
    first = dict(zip(terms, vectors[0], strict=True))
    # Of 6 texts 3 have the one, 2 the other.
    assert first["rare"] / first["often"] == pytest.approx(np.log(3) / np.log(2), rel=1e-5)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(6))


def test_topics_are_of_the_rows_that_would_go_and_hostile_words_stay_text(tmp_path):
    answers = [*written(60), *("kept answer " + text for text in written(60))]
    answers[:6] = [f"{answer} {PAYLOADS[0]}" for answer in answers[:6]]
    records = [{"prompt": "p", "response": answer} for answer in answers]
    data = write_jsonl(tmp_path / "data.jsonl", records)
    scores = [1 - place / 200 for place in range(120)]
    rows, table = score_by_hand(data, scores, tmp_path / "s.parquet")
    found = contents.gather(rows, table, chosen=drop_fraction(table.scores, 0.5))
    assert sorted(row for topic in found.topics for row in topic.rows) == list(range(60))
    page = Seen("".join(render(found)))
    assert "What would go, by topic" in page.text
    for topic in found.topics:
        assert f"{topic.name}{len(topic.rows)} rows, " in page.text
    assert page.elements.count("script") == 2


def tables(folder, here, there, **asked):
    """Two tables whose rows have the features that are given."""
    for name, rows in (("here", here), ("there", there)):
        records = [{"prompt": name, "response": str(place)} for place in range(len(rows))]
        data = write_jsonl(folder / f"{name}.jsonl", records)
        extra = asked if name == "there" else {}
        yield score_by_hand(
            data, [0.5] * len(rows), folder / f"{name}.parquet", features=rows, **extra
        )


def test_features_of_this_data_that_the_reference_lacks_come_first(tmp_path):
    here = [(1, 2)] * 40 + [(1, 3)] * 10 + [(3,)] * 50
    there = [(1, 4)] * 40 + [(1, 3, 3)] * 30 + [(3,)] * 30
    (rows, table), (_, reference) = tables(tmp_path, here, there)
    found = compare(table, reference)
    assert [one.feature for one in found.more] == [2]
    # Feature 1 is in 50 of 100 here and 70 of 100 there; 3 in 60 of each.
    assert [one.feature for one in found.fewer] == [4, 1]
    assert (found.features, found.rows) == (4, 100)
    assert (found.more[0].here.value, found.more[0].there.value) == (0.4, 0)
    page = Seen("".join(render(contents.gather(rows, table, reference=reference)))).text
    assert "In more rows here than in there.parquet" in page


def test_the_interval_of_a_difference_is_newcombes():
    # Table II of Newcombe (1998), method 10: 56 of 70 against 48 of 80.
    found = newcombe(rate(56, 70), rate(48, 80))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_a_reference_that_was_scored_otherwise_is_refused(tmp_path):
    (_, table), (_, reference) = tables(tmp_path, [(1,)] * 3, [(1,)] * 3, scorer="persona")
    with pytest.raises(TableError, match=r"there.parquet: is scored otherwise .*persona"):
        compare(table, reference)


def test_report_takes_a_score_table_as_reference_without_a_bound(work, geofilter):
    asked = "report data.jsonl --scores data.scores.parquet --no-model -o r.html"
    done = geofilter(f"{asked} --reference data.scores.parquet")
    assert done.code == 0
    assert "Compared with the reference" in (work / "r.html").read_text("utf-8")
    done = geofilter(f"{asked.replace('r.html', 's.html')} --reference other.jsonl")
    assert done.code == 2
    assert "other.jsonl: is no score table, which --reference without --fdr takes" in done.err
