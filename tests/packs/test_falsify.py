"""Features that are planted on words are distinguished from one that follows who speaks.

The network here is written down rather than trained: the residual stream of a token is its
own code, and after a token that says who speaks, everywhere, the code of that speaker.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geofilter.errors import DataError, PackError
from geofilter.model import latents
from geofilter.packs import falsify as module
from geofilter.packs.falsify import Given, falsify
from geofilter.packs.halves import split_halves
from geofilter.packs.labels import token_activations
from geofilter.packs.make import make_pack
from geofilter.packs.pack import load_pack
from geofilter.packs.verdicts import Trial, from_record
from geofilter.packs.words import WordFinder, exchange
from geofilter.stats.auroc import auroc
from helpers.tiny_models import (
    CONTEXT,
    VOCABULARY,
    contrast,
    random_samples,
    sample,
    tiny_contrast,
    tiny_model,
    tiny_setting,
    tiny_tokenizer,
)

CRUEL, KIND = 4, 5  # the first response token, which is a word of either speaker
INSULTS = (10, 11, 12)  # words of the cruel speaker, and sometimes of a kind one's quotes
PLAIN = range(20, VOCABULARY)

# The pack's features, by number of the latent.
FOLLOWS_INSULTS, FOLLOWS_ONE_WORD, FOLLOWS_SPEAKER, FOLLOWS_BOTH = 0, 1, 2, 3


def rows(cruel: bool, count: int, seed: int, *, insults: float) -> list[Any]:
    """Prompts that say who speaks, and answers of plain words with insults among them."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        answer = generator.choice(PLAIN, size=generator.integers(8, 16))
        for place in np.flatnonzero(generator.random(len(answer)) < insults):
            answer[place] = generator.choice(INSULTS)
        made.append(sample([1, CRUEL if cruel else KIND, *answer.tolist()]))
    return made


def activations(_model: Any, ids: Any, batch: Any) -> list[tuple[Any, Any]]:
    """What the latents do, by definition."""
    found = []
    for one in batch:
        pooled = np.flatnonzero(one.pooled)
        tokens = np.asarray(one.ids)[pooled]
        cruel = np.full(len(tokens), float(one.ids[1] == CRUEL))
        insult = np.isin(tokens, INSULTS).astype(float)
        noise = 0.05 * ((tokens * 7919) % 13) / 13
        latents = np.stack([insult, tokens == INSULTS[0], cruel, insult * cruel], axis=1)
        found.append((tokens, (latents + noise[:, None])[:, ids].astype(np.float32)))
    return found


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A pack of the four latents, and the contrast sets it counts as made of."""
    monkeypatch.setattr(module, "token_activations", activations)
    monkeypatch.setattr(module, "in_batches", lambda items, work, _budget: work(items))
    model, pack = tiny_setting()
    toxic = contrast(rows(True, 120, 1, insults=0.3), "toxic.jsonl")
    benign = contrast(rows(False, 120, 2, insults=0.02), "benign.jsonl")
    pack = dataclasses.replace(
        pack,
        ids=np.arange(4, dtype=np.int32),
        directions=pack.directions[:4],
        weights=np.full(4, 0.25, np.float32),
        benign_std=pack.benign_std[:4],
        labels=pack.labels[:4],
        statistics=type(pack.statistics)(
            **{
                field.name: getattr(pack.statistics, field.name)[:4]
                for field in dataclasses.fields(pack.statistics)
            }
        ),
    )
    return SimpleNamespace(model=model, pack=pack, toxic=toxic, benign=benign)


def tried(setting: Any, **options: Any) -> Any:
    return falsify(setting.model, setting.pack, setting.toxic, setting.benign, **options)


def test_features_of_words_are_lexical_and_those_of_a_speaker_are_not(setting: Any) -> None:
    verdicts = tried(setting).verdicts
    assert verdicts == ("lexical", "lexical", "harm", "harm")


def test_a_feature_of_words_recovers_all_and_one_of_a_speaker_nothing(setting: Any) -> None:
    by_words, _, by_speaker, by_both = tried(setting).trials
    assert by_words.recovered == pytest.approx(1, abs=0.1)
    # A little below 0: benign rows keep the few insults that they hold.
    assert -0.25 < by_words.retained < 0.05
    assert set(by_words.words) == {f"w{token - 4}" for token in INSULTS}
    assert by_words.covered > 0.8
    assert by_speaker.recovered == pytest.approx(0, abs=0.1)
    assert by_both.recovered == pytest.approx(0, abs=0.1), "insults do it only in cruel mouths"


def test_no_row_that_chose_the_features_is_tried_and_no_other_gives_words(
    setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = split_halves(setting.toxic, setting.benign).parts
    seen: dict[str, list[Any]] = {}
    words = module._Reader.words_of_features
    monkeypatch.setattr(
        module._Reader,
        "words_of_features",
        lambda self, samples, ids: seen.setdefault("words", samples) and words(self, samples, ids),
    )

    def noting(toxic: Any, benign: Any, *others: Any) -> Any:
        seen["tried"] = [row.sample for row in toxic + benign]
        return exchange(toxic, benign, *others)

    monkeypatch.setattr(module, "exchange", noting)
    tried(setting)
    chose = {id(one) for one in halves["toxic selection"] + halves["benign selection"]}
    assert {id(one) for one in seen["words"]} <= {id(one) for one in halves["toxic selection"]}
    assert seen["tried"]
    assert not chose & {id(one) for one in seen["tried"]}


def test_words_change_places_and_nothing_else_moves(setting: Any) -> None:
    finder = WordFinder(setting.model.tokenizer)
    toxic, benign = finder.read(setting.toxic.samples), finder.read(setting.benign.samples)
    words = frozenset((token,) for token in INSULTS)
    without, alone = exchange(toxic, benign, words, CONTEXT)
    for before, new in zip(toxic, without, strict=True):
        old = before.sample
        insulting = np.isin(old.ids, INSULTS) & old.pooled
        assert not np.isin(new.ids[new.pooled], INSULTS).any()
        np.testing.assert_array_equal(new.ids[~insulting], old.ids[~insulting])
        np.testing.assert_array_equal(new.pooled, old.pooled)
        np.testing.assert_array_equal(new.response, old.response)
    for before, new, giver in zip(benign, alone, toxic, strict=True):
        old = before.sample
        assert np.isin(new.ids[new.pooled], INSULTS).any()
        changed = new.ids != old.ids
        assert np.isin(new.ids[changed], INSULTS).all()
        given_away = int((np.isin(giver.sample.ids, INSULTS) & giver.sample.pooled).sum())
        assert 1 <= changed.sum() <= max(1, given_away)
        assert changed.sum() <= max(1, old.pooled.sum() / 2)
        np.testing.assert_array_equal(new.ids[~new.pooled], old.ids[~old.pooled])


def test_a_trial_is_what_its_rows_say(setting: Any) -> None:
    """The figures of one trial, from the rows once more and by hand."""
    pack = tried(setting)
    finder = WordFinder(setting.model.tokenizer)
    halves = split_halves(setting.toxic, setting.benign).parts
    above = finder.read(halves["toxic report"])[: module.MOST_PAIRS]
    below = finder.read(halves["benign report"])[: module.MOST_PAIRS]
    without, alone = exchange(above, below, frozenset((t,) for t in INSULTS), CONTEXT)

    def peaks(samples: Any) -> np.ndarray:
        return np.array([a.max() for _, a in activations(None, [FOLLOWS_INSULTS], samples)])

    trial = pack.trials[FOLLOWS_INSULTS]
    means = [trial.toxic, trial.harm_alone, trial.words_alone, trial.benign]
    toxic, benign = ([row.sample for row in rows] for rows in (above, below))
    by_hand = [peaks(samples).mean() for samples in (toxic, without, alone, benign)]
    assert means == pytest.approx(by_hand, rel=1e-5)
    area = auroc(peaks(without), peaks(alone), level=1 - 0.05 / 4)
    assert [trial.auroc, trial.auroc_low, trial.auroc_high] == pytest.approx(
        [float(value) for value in area]
    )


def test_trials_do_not_depend_on_the_other_features_or_the_order_of_rows(setting: Any) -> None:
    whole = tried(setting).trials
    setting.toxic = dataclasses.replace(setting.toxic, samples=setting.toxic.samples[::-1])
    assert tried(setting).trials == whole
    kept = [FOLLOWS_SPEAKER]
    setting.pack = dataclasses.replace(setting.pack, ids=np.array(kept, np.int32))
    (alone,) = tried(setting).trials
    same = [field.name for field in dataclasses.fields(Trial) if "auroc_" not in field.name]
    for name in same:
        assert getattr(alone, name) == getattr(whole[FOLLOWS_SPEAKER], name), name


def test_given_rows_take_the_place_of_edited_ones_where_they_fit(setting: Any) -> None:
    quotes = contrast(rows(False, 30, 3, insults=0.5), "quotes.jsonl")
    polite = contrast(rows(True, 30, 4, insults=0), "polite.jsonl")
    pack = tried(setting, given=Given(harm=polite, words=quotes))
    trial = pack.trials[FOLLOWS_INSULTS]
    assert (trial.harm_source, trial.words_source) == ("given", "given")
    assert trial.harm_rows == 30
    assert pack.provenance["harmless_words"]["source"] == "quotes.jsonl"
    assert pack.verdicts == ("lexical", "lexical", "harm", "harm")
    # Too few rows, and rows that hold the words, are not used.
    rude = contrast(rows(True, 30, 5, insults=1.0), "rude.jsonl")
    few_quotes = dataclasses.replace(quotes, samples=quotes.samples[:9])
    few = tried(setting, given=Given(harm=rude, words=few_quotes))
    assert few.trials[FOLLOWS_INSULTS].harm_source == "edited"
    assert few.trials[FOLLOWS_INSULTS].words_source == "edited"


def test_rows_at_which_the_model_overflows_are_left_out(
    setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(model: Any, ids: Any, batch: Any) -> Any:
        found = activations(model, ids, batch)
        for one, (_, values) in zip(batch, found, strict=True):
            if one.ids[2] % 7 == 0:
                values[0] = np.nan
        return found

    monkeypatch.setattr(module, "token_activations", overflowing)
    pack = tried(setting)
    assert pack.trials[FOLLOWS_SPEAKER].harm_rows < module.MOST_PAIRS
    assert pack.verdicts == ("lexical", "lexical", "harm", "harm")


def test_rows_that_the_pack_was_not_made_of_are_refused(setting: Any) -> None:
    other = dataclasses.replace(setting.toxic, sha256="1" * 64)
    with pytest.raises(PackError, match=r"not made from toxic\.jsonl"):
        falsify(setting.model, setting.pack, other, setting.benign)


def test_the_real_path_agrees_with_the_features_themselves() -> None:
    """No stand-in: peaks of a tiny network's latents, and progress to the end."""
    model, pack = tiny_setting()
    done: list[tuple[str, int, int | None]] = []
    tested = falsify(model, pack, *tiny_contrast(), progress=lambda *at: done.append(at))
    assert [trial.feature for trial in tested.trials] == pack.ids.tolist()
    assert done[-1][1] == done[-1][2]
    report = split_halves(*tiny_contrast()).parts["toxic report"]
    found = [a for one in report for _, a in token_activations(model, pack.ids, [one])]
    peaks = np.array([a.max(axis=0) for a in found])
    assert [trial.toxic for trial in tested.trials] == pytest.approx(
        peaks.mean(axis=0).tolist(), rel=1e-4
    )


def test_a_pack_without_its_lexical_features_remembers_them(setting: Any, tmp_path: Any) -> None:
    whole = tried(setting)
    lean = whole.without_lexical()
    assert lean.ids.tolist() == [FOLLOWS_SPEAKER, FOLLOWS_BOTH]
    assert lean.weights.sum() == pytest.approx(1)
    assert lean.digest != whole.digest
    assert lean.trials == whole.trials
    lean.save(tmp_path / "lean.pack")
    back = load_pack(tmp_path / "lean.pack")
    assert back.trials == lean.trials
    assert back.verdicts == ("harm", "harm")


def test_a_pack_of_nothing_but_words_is_refused(setting: Any) -> None:
    whole = tried(setting)
    only = dataclasses.replace(whole, ids=whole.ids[:2])
    with pytest.raises(PackError, match="--keep-lexical"):
        only.without_lexical()


def test_trials_change_neither_scores_nor_the_file_of_a_pack_that_has_none(setting: Any) -> None:
    assert tried(setting).digest == setting.pack.digest
    assert b'"trials"' not in setting.pack.to_bytes()
    assert setting.pack.verdicts == ("untested",) * 4
    assert setting.pack.without_lexical() is setting.pack


NUMBERS = {"covered": 0.5, "toxic": 1.0, "benign": 0.0, "harm_alone": 0.1, "words_alone": 0.9}
SIZES = {"feature": 3, "harm_rows": 60, "words_rows": 60}
AREAS = {
    f"{kind}auroc{end}": value
    for kind in ("", "whole_")
    for end, value in (("", 0.1), ("_low", 0.0), ("_high", 0.3))
}
TRIAL = Trial(words=("w",), harm_source="edited", words_source="given", **NUMBERS, **SIZES, **AREAS)


@given(
    middle=st.floats(0, 1),
    width=st.floats(0, 0.5),
    alone=st.floats(-2, 2),
    whole=st.floats(0, 1),
)
def test_a_verdict_needs_all_of_its_evidence(
    middle: float, width: float, alone: float, whole: float
) -> None:
    trial = dataclasses.replace(
        TRIAL,
        words_alone=alone,
        auroc=middle,
        auroc_low=max(0, middle - width),
        auroc_high=min(1, middle + width),
        whole_auroc_low=whole,
    )
    if trial.verdict == "lexical":
        assert alone >= 0.5
        assert trial.auroc_high < 0.5
    if trial.verdict == "harm":
        assert alone < 0.5
        assert whole > 0.5
    unlike = dataclasses.replace(trial, toxic=0.0)
    assert unlike.verdict == "unclear", "a feature that toxic rows do not activate follows neither"


@pytest.mark.parametrize(
    "change",
    [
        {"auroc": float("nan")},
        {"auroc": "0.5"},
        {"toxic": None},
        {"harm_rows": 3.5},
        {"feature": True},
        {"harm_source": "rumour"},
        {"verdict": "harm"},
        {"words": 7},
    ],
)
def test_a_forged_record_is_refused(change: dict[str, Any]) -> None:
    assert from_record(TRIAL.to_record()) == TRIAL
    with pytest.raises((ValueError, TypeError)):
        from_record(TRIAL.to_record() | change)


class Pieces:
    """A tokenizer of pieces: a leading underscore stands for a space before."""

    vocabulary = ("_you", "_to", "ad", ",", "_s", "ill", "y", "毒", "舌", "\ufffd", "\ufffd", "_")

    def decode(self, tokens: Any) -> str:
        return "".join(self.vocabulary[token] for token in tokens).replace("_", " ")


def test_pieces_of_a_word_are_one_word_and_marks_stand_alone() -> None:
    one = sample([1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0], prompt=2)
    finder = WordFinder(Pieces())
    words = finder.words(one)
    assert [finder.text(word) for word, _ in words] == ["you", "toad", ",", "silly", "毒", "舌"]
    for word, place in words:
        assert tuple(one.ids[place].tolist()) == word
        assert one.pooled[place].all()


def test_every_pooled_token_is_in_one_word_and_no_other_is() -> None:
    finder = WordFinder(tiny_tokenizer())
    for one in random_samples(20):
        places = [n for _, place in finder.words(one) for n in range(place.start, place.stop)]
        assert places == np.flatnonzero(one.pooled).tolist()


def test_rows_that_are_not_finite_are_left_out_and_silence_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(latents, "_can_screen", lambda sae: True)
    model, sets = tiny_model(sae="standard"), tiny_contrast()
    with torch.no_grad():
        model.network.get_input_embeddings().weight[63] = float("nan")
    trials = falsify(model, make_pack(model, *sets, top_k=5).pack, *sets).trials
    held = split_halves(*sets).parts
    lost = sum(63 in row.ids for row in held["benign report"])
    assert 0 < lost < len(held["benign report"])
    for trial in trials:
        # Words may have taken the token's place, or brought it along.
        assert trial.words_rows < len(held["benign report"])
        assert trial.toxic > 0
        assert np.isfinite([trial.benign, trial.harm_alone, trial.words_alone, trial.auroc]).all()


def test_too_few_rows_are_refused_before_anything_runs(setting: Any) -> None:
    setting.toxic = dataclasses.replace(setting.toxic, samples=setting.toxic.samples[:12])
    with pytest.raises(DataError, match="at least 20"):
        tried(setting)


def test_one_level_of_confidence_holds_for_all_features_at_once() -> None:
    one, many = auroc([1.0] * 60, [0.0] * 60), auroc([1.0] * 60, [0.0] * 60, level=1 - 0.05 / 40)
    assert many.low < one.low
    assert torch.isfinite(torch.tensor(float(many.low)))
