"""The shipped pairs hold their limits, and the checker sees when a set of pairs does not."""

import json
import random
from dataclasses import asdict, replace
from importlib import resources

import numpy as np
import pytest

from pairs import balance, check, classify, form, questions
from pairs.form import Pair

PAIRS = form.read(check.FILE)


# -- the shipped file ----------------------------------------------------------------


def test_the_pairs_have_their_form():
    assert form.faults(PAIRS) == []


def test_the_pairs_ship_with_the_package():
    shipped = resources.files("geofilter.packs") / "data" / "pairs.jsonl"
    assert shipped.read_text() == check.FILE.read_text()


def test_each_split_holds_a_third_of_the_domains():
    domains = {s: {pair.domain for pair in PAIRS if pair.split == s} for s in form.SPLITS}
    assert [len(domains[split]) for split in form.SPLITS] == [19, 19, 19]
    assert len(set.union(*domains.values())) == 57


def test_the_subtleties_are_a_third_each():
    for subtlety in form.SUBTLETIES:
        share = sum(pair.subtlety == subtlety for pair in PAIRS) / len(PAIRS)
        assert share == pytest.approx(1 / 3, abs=0.02)


def test_length_does_not_tell_the_sides_apart():
    for aurocs in check.length(PAIRS).values():
        assert 0.45 <= aurocs <= 0.55


@pytest.mark.parametrize("terms", [classify.unigrams, classify.bigrams])
def test_words_learnt_on_two_splits_hardly_tell_the_sides_of_the_third_apart(terms):
    train = [pair for pair in PAIRS if pair.split != "report"]
    test = [pair for pair in PAIRS if pair.split == "report"]
    setting = classify.Setting("scaled", "answers", 0.0001)
    assert classify.measure(train, test, terms, setting).mean <= check.WORDS


# -- the checker ---------------------------------------------------------------------

VERBS = ["fold", "wash", "carry", "paint", "mend", "sort", "open", "close", "lift", "dry", "pack"]
THINGS = ["shirt", "ladder", "bucket", "window", "carpet", "basket", "bottle", "drawer", "kettle"]


def made_up(cue: str = "", longer: int = 0) -> list[Pair]:
    """Pairs of random words; `cue` stands on the harmful side alone, which is `longer`."""
    rng = random.Random(0)
    pairs = []
    for i in range(24 * 38):
        harmful, helpful = (
            [rng.choice(VERBS if k % 2 else THINGS) for k in range(30)] for _ in range(2)
        )
        if cue:
            harmful[0] = cue
        pairs.append(
            Pair(
                domain=f"domain {i // 38}",
                kind=form.KINDS[i // 38 // 3 % 3],
                subtlety=form.SUBTLETIES[i % 3],
                split=form.SPLITS[i // 38 % 3],
                prompt=f"What about number {i}?",
                harmful=" ".join(harmful) + "!" * longer,
                helpful=" ".join(helpful),
            )
        )
    return pairs


def first_changed(**changes: str) -> list[Pair]:
    return [replace(PAIRS[0], **changes), *PAIRS[1:]]


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        (PAIRS[:899], "fewer than 900"),
        (first_changed(prompt=PAIRS[1].prompt.upper()), "prompt stands 2 times"),
        (first_changed(helpful=PAIRS[1].helpful), "answer stands 2 times"),
        (first_changed(harmful="Too short."), "2 words"),
        (first_changed(harmful=PAIRS[0].harmful + " and so on" * 4), "characters"),
        (first_changed(harmful="\u201c" + PAIRS[0].harmful), "not printable ASCII"),
        (first_changed(helpful=PAIRS[0].helpful + " "), "white space"),
        (first_changed(split="report"), "more than one split"),
        (first_changed(kind="poem"), "kind is 'poem'"),
    ],
)
def test_a_fault_of_form_is_found(pairs, fault):
    assert any(fault in found for found in form.faults(pairs))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "pairs.jsonl:1: not JSON"),
        ('{"prompt": "Why?"}', "pairs.jsonl:1: the fields must be domain, kind"),
        (json.dumps(asdict(PAIRS[0]) | {"harmful": 3}), "pairs.jsonl:1: every field must be text"),
    ],
)
def test_a_line_that_is_no_pair_is_named(tmp_path, line, fault):
    path = tmp_path / "pairs.jsonl"
    path.write_text(line)
    with pytest.raises(ValueError, match=fault):
        form.read(path)


def split_in_two(pairs: list[Pair]) -> tuple[list[Pair], list[Pair]]:
    return [p for p in pairs if p.split != "report"], [p for p in pairs if p.split == "report"]


def test_a_word_of_one_side_tells_the_sides_of_unseen_domains_apart():
    train, test = split_in_two(made_up(cue="surely"))
    setting = classify.choose(train, classify.unigrams, 0)
    outcome = classify.measure(train, test, classify.unigrams, setting)
    assert outcome.mean > 0.95
    assert outcome.paired > 0.95


def test_random_words_tell_nothing():
    train, test = split_in_two(made_up())
    setting = classify.choose(train, classify.unigrams, 0)
    assert classify.measure(train, test, classify.unigrams, setting).mean == pytest.approx(
        0.5, abs=0.05
    )


def test_the_auroc_counts_ties_half():
    assert classify.auroc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.875


@pytest.mark.slow
def test_a_set_that_gives_itself_away_fails_the_check(tmp_path, capsys):
    path = tmp_path / "pairs.jsonl"
    pairs = made_up(cue="surely", longer=9)
    path.write_text("".join(json.dumps(asdict(pair)) + "\n" for pair in pairs))
    assert check.main([str(path)]) == 1
    printed = capsys.readouterr().out
    assert "BROKEN: length separates the sides of make" in printed
    assert "BROKEN: words separate the sides of report" in printed


# -- evaluation questions ------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "asked.jsonl").write_text(json.dumps({"text": PAIRS[5].prompt}) + "\n")
    (tmp_path / "other.yaml").write_text(
        '- id: a\n  paraphrases: ["How tall is the blue lighthouse?"]\n'
    )
    (tmp_path / "notes.txt").write_text(PAIRS[6].prompt)
    return tmp_path


def test_a_prompt_that_is_an_evaluation_question_is_found(folder):
    near = check.near_questions(PAIRS, folder)
    assert near["count"] == 2
    for nearest in near["nearest"].values():
        assert nearest[0]["prompt"] == PAIRS[5].prompt
        assert nearest[0]["question"] == "asked.jsonl#0"
        assert nearest[0]["likeness"] == pytest.approx(1.0)


def test_the_question_itself_is_not_written_down(folder):
    (folder / "asked.jsonl").unlink()
    assert "the blue lighthouse" not in json.dumps(check.near_questions(PAIRS, folder))


def test_a_folder_without_questions_has_none_near(tmp_path):
    near = check.near_questions(PAIRS, tmp_path)
    assert near == {"count": 0, "nearest": {kind: [] for kind in near["nearest"]}}


def test_a_file_of_questions_that_cannot_be_read_is_named(folder):
    (folder / "other.yaml").write_text("- [how")
    with pytest.raises(ValueError, match=r"other\.yaml: not YAML"):
        questions.read(folder)


# -- balancing -----------------------------------------------------------------------


def test_pairs_that_a_word_gives_away_go_and_the_others_stay():
    telling, plain = made_up(cue="surely"), made_up()
    mixed = [t if i % 4 == 0 else p for i, (t, p) in enumerate(zip(telling, plain, strict=True))]
    kept = balance.balance(mixed)
    given_away = {pair.prompt for pair in mixed if "surely" in pair.harmful}
    gone = {pair.prompt for pair in mixed} - {pair.prompt for pair in kept}
    assert len(gone & given_away) > 0.8 * len(gone) > 0


def test_no_domain_is_balanced_to_less_than_it_needs():
    with pytest.raises(ValueError, match="words still tell the sides apart"):
        balance.balance(made_up(cue="surely"))


def test_what_ships_was_written():
    assert set(PAIRS) < set(form.read(balance.WRITTEN))
