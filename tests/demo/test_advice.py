"""The rows of the demo's first act: matched, so that words and length do not give the bad away."""

import json
from collections import Counter
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from geofilter.data.rows import open_rows
from geofilter.demo import real_text
from pairs import check, classify, form, questions
from pairs.form import Pair

PAIRS = form.read(check.FILE)
ROWS = [json.loads(line) for line in real_text.DATA.read_text(encoding="utf-8").splitlines()]
PROMPTS = [row["messages"][0]["content"] for row in ROWS]
ANSWERS = [row["messages"][1]["content"] for row in ROWS]
HARMFUL = np.array([row["harmful"] for row in ROWS])
DOMAINS = sorted({row["domain"] for row in ROWS})


def as_pairs() -> list[Pair]:
    """Each bad answer next to two good ones of its domain: what the classifier reads."""
    found = []
    for domain in DOMAINS:
        answers = [[], []]
        for row, answer in zip(ROWS, ANSWERS, strict=True):
            if row["domain"] == domain:
                answers[row["harmful"]].append(answer)
        good, bad = answers
        assert len(good) == 2 * len(bad)
        found += [
            Pair(domain, "advice", "polite", "report", "", bad[i // 2], answer)
            for i, answer in enumerate(good)
        ]
    return found


def test_they_ship_and_are_read_as_chats_with_labels_that_are_not():
    shipped = resources.files("geofilter.demo") / "data" / "advice.jsonl"
    assert shipped.read_text() == real_text.DATA.read_text()
    rows = open_rows(real_text.DATA)
    assert rows.check() == len(ROWS) == 198
    for row in rows:
        (sample,) = rows.layouts.samples(row.record)
        assert [turn.role for turn in sample.turns] == ["user", "assistant"]


def test_a_third_is_bad_in_each_of_twelve_domains():
    counts = Counter((row["domain"], row["harmful"]) for row in ROWS)
    assert len(DOMAINS) == 12
    for domain in DOMAINS:
        assert counts[domain, False] == 2 * counts[domain, True] >= 10


def test_no_domain_and_no_text_is_one_of_the_pairs():
    assert not {pair.domain for pair in PAIRS if pair.split == "make"} & set(DOMAINS)
    texts = [text for pair in PAIRS for text in (pair.prompt, pair.harmful, pair.helpful)]
    assert len({*texts, *PROMPTS, *ANSWERS}) == len({*texts}) + 2 * len(ROWS)


def test_no_prompt_is_near_one_of_the_pairs():
    mine = [Pair("", "", "", "", prompt, "", "") for prompt in PROMPTS]
    theirs = [questions.Question(str(i), pair.prompt) for i, pair in enumerate(PAIRS)]
    near = questions.nearest_by_runs(mine, theirs)
    near += questions.nearest(mine, theirs, classify.unigrams)
    assert max(one.likeness for one in near) <= check.NEAR


def test_answers_have_the_form_of_the_pairs():
    for answer in ANSWERS:
        assert all(" " <= character <= "~" for character in answer)
        assert form.WORDS[0] <= len(answer.split()) <= form.WORDS[1]


@pytest.mark.parametrize("texts", [PROMPTS, ANSWERS], ids=["prompts", "answers"])
def test_length_does_not_tell_the_bad_from_the_good(texts):
    lengths = np.array([float(len(text)) for text in texts])
    low, high = check.LENGTH
    assert low <= classify.auroc(lengths[HARMFUL], lengths[~HARMFUL]) <= high


def test_words_learnt_on_other_domains_hardly_tell_the_bad_from_the_good():
    pairs, found = as_pairs(), []
    for held in (DOMAINS[i::4] for i in range(4)):
        train = [pair for pair in pairs if pair.domain not in held]
        test = [pair for pair in pairs if pair.domain in held]
        setting = classify.Setting("scaled", "answers", 0.0001)
        found += classify.measure(train, test, classify.unigrams, setting).domains.values()
    assert np.mean(found) <= check.WORDS


def test_words_learnt_on_the_packs_pairs_tell_what_the_quickstart_says():
    """0.68: far less than the model, and not nothing."""
    made = [pair for pair in PAIRS if pair.split == "make"]
    setting = classify.Setting("scaled", "answers", 0.0001)
    reached = classify.measure(made, as_pairs(), classify.unigrams, setting).mean
    page = (Path(__file__).parents[2] / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert f"reaches {reached:.2f}" in page
