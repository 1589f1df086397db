"""A model's own answers: transformers' own, read as rows are, and generated once."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geofilter.data.encoder import Encoded, Encoder
from geofilter.data.problems import Problem
from geofilter.data.samples import Sample, Turn
from geofilter.errors import ModelError, OutputError
from geofilter.model import own_answers as module
from geofilter.model.loading import LoadedModel
from geofilter.model.own_answers import OwnAnswers, prompt_of
from geofilter.packs.index import ToxicIndex
from geofilter.scoring.explain import explain, token_scorer
from geofilter.scoring.score import BatchScorer, SampleScore
from geofilter.scoring.scorers.projection_difference import NO_ANSWER
from helpers.tiny_models import random_samples, sample, tiny_model, tiny_setting

NAME = "projection-difference"
TOKENS = 6


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_TOKENS", TOKENS)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_setting()[0]


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The prompts that were given to the network, in order."""
    seen: list[list[int]] = []
    draw = module.draw

    def noted(network: Any, tokenizer: Any, prompts: Sequence[list[int]], **how: Any) -> Any:
        seen.extend(prompts)
        return draw(network, tokenizer, prompts, **how)

    monkeypatch.setattr(module, "draw", noted)
    return seen


def rows(count: int = 12) -> list[Encoded]:
    """Samples whose prompts are 2 to 30 tokens long."""
    found = []
    for place, one in enumerate(random_samples(count, seed=5)):
        found.append(sample(one.ids.tolist(), prompt=2 + place * (len(one.ids) - 3) // count))
    return found


def by_hand(model: LoadedModel, prompt: list[int]) -> tuple[list[int], np.ndarray | None]:
    """What transformers generates after one prompt, and its own hidden states over that."""
    ids = torch.tensor([prompt])
    mask = torch.ones_like(ids)
    most = min(TOKENS, model.max_context - len(prompt))
    whole = model.network.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=most, pad_token_id=0
    )
    answer = [token for token in whole[0, len(prompt) :].tolist() if token != 2]
    read = torch.tensor([prompt + answer])
    hidden = model.network(read, output_hidden_states=True).hidden_states[model.block + 1][0]
    kept = [len(prompt) + place for place, token in enumerate(answer) if token > 2]
    return answer, hidden[kept].mean(dim=0).numpy() if kept else None


def test_an_answer_and_its_mean_are_those_of_transformers(model: LoadedModel) -> None:
    samples = rows()
    expected = [by_hand(model, prompt_of(one).tolist()) for one in samples]
    answers = OwnAnswers(model)
    found = answers([prompt_of(one) for one in samples])
    assert [one.tolist() for one in found] == [answer for answer, _ in expected]
    assert len({len(answer) for answer, _ in expected}) > 1, "answers of one length show less"
    for mean, (_, own) in zip(answers.means(samples), expected, strict=True):
        if own is None:
            assert np.isnan(mean).all()
        else:
            np.testing.assert_allclose(mean, own, atol=1e-5)


def test_the_score_is_persona_less_that_of_the_own_answer(model: LoadedModel) -> None:
    pack, samples = tiny_setting()[1], rows()
    dense = pack.dense_direction.astype(np.float64)
    scorer = BatchScorer(model, pack, scorer=NAME)
    persona = BatchScorer(model, pack, scorer="persona")(samples)
    index = ToxicIndex(pack, model.decoder)
    compared, moved = 0, 0.0
    for one, row, found in zip(samples, persona, scorer(samples), strict=True):
        own = by_hand(model, prompt_of(one).tolist())[1]
        if own is None:
            assert found == NO_ANSWER
            continue
        assert isinstance(row, SampleScore)
        assert isinstance(found, SampleScore)
        assert found.score == pytest.approx(row.score - float(own @ dense), abs=1e-4)
        moved += abs(found.score - row.score)
        # Explained and by token it is the same number.
        explained = explain(model, index, one, scorer=NAME)
        assert not isinstance(explained, Problem)
        parts = sum(token.contribution for token in explained.tokens)
        assert explained.base + parts == pytest.approx(found.score, abs=1e-4)
        (tokens,) = token_scorer(model, index, NAME, "nearest")([one])
        assert np.nanmean(tokens) == pytest.approx(found.score, abs=1e-4)
        compared += 1
    assert compared > len(samples) / 2
    assert moved / compared > 0.1


def test_an_answer_depends_neither_on_its_neighbours_nor_on_their_order(
    model: LoadedModel,
) -> None:
    asked = [prompt_of(one) for one in rows(20)]
    together = OwnAnswers(model)(asked)
    turned = OwnAnswers(model)(asked[::-1])[::-1]
    for prompt, one, other in zip(asked, together, turned, strict=True):
        (alone,) = OwnAnswers(model)([prompt])
        assert one.tolist() == other.tolist() == alone.tolist()


def test_rows_with_one_prompt_share_an_answer_and_both_sides_of_a_preference(
    model: LoadedModel, prompts: list[list[int]]
) -> None:
    words = [1, 7, 9, 12]
    sides = [sample([*words, *tail], prompt=4) for tail in ([20, 21, 22], [30, 31, 32, 33])]
    first, second = OwnAnswers(model).means([*sides, sides[0]])[:2]
    assert prompts == [words]
    np.testing.assert_array_equal(first, second)


def test_a_run_that_was_killed_goes_on_and_nothing_is_generated_twice(
    model: LoadedModel,
    prompts: list[list[int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, asked = tmp_path / "s.parquet.answers", [prompt_of(one) for one in rows(20)]
    distinct = {tuple(one.tolist()) for one in asked}
    whole = [one.tolist() for one in OwnAnswers(model)(asked)]
    prompts.clear()
    monkeypatch.setattr(module, "_CPU_BUDGET", 64)

    once = OwnAnswers(model)
    once.keep(path)
    work = once._answer

    def until_killed(batch: Any) -> Any:
        if len(prompts) > len(distinct) / 2:
            raise KeyboardInterrupt
        return work(batch)

    monkeypatch.setattr(once, "_answer", until_killed)
    with pytest.raises(KeyboardInterrupt):
        once(asked)
    before = len(prompts)
    assert 0 < before < len(distinct)
    again = OwnAnswers(model)
    again.keep(path)
    assert [one.tolist() for one in again(asked)] == whole
    assert sorted(map(tuple, prompts)) == sorted(distinct)
    third = OwnAnswers(tiny_model(block=2))  # another block of the same network
    third.keep(path)
    assert [one.tolist() for one in third(asked)] == whole
    assert len(prompts) == len(distinct)
    other = OwnAnswers(tiny_model(seed=1))
    other.keep(path)
    other(asked)
    assert len(prompts) == 2 * len(distinct)


def test_the_last_turn_is_answered_and_what_comes_before_it_kept(model: LoadedModel) -> None:
    model.tokenizer.chat_template = (
        "{% for m in messages %}<bos> {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}<bos> {% endif %}"
    )
    try:
        turns = [Turn(role, f"w{n} w{n + 1}") for n, role in enumerate(["user", "assistant"] * 2)]
        encoder = Encoder(model.tokenizer, max_length=40)
        encoded = encoder.encode(Sample(turns=tuple(turns)))
        text = model.tokenizer.decode(prompt_of(encoded))
        assert text == "<bos> w0 w1 <bos> w1 w2 <bos> w2 w3 <bos>"
        plain = encoder.encode(Sample(text="w1 w2 w3"))
        assert prompt_of(plain).tolist() == []
        alone = encoder.encode(Sample(turns=(Turn("assistant", "w5 w6"),)))
        assert OwnAnswers(model).samples([plain, alone]) == [None, None]
    finally:
        model.tokenizer.chat_template = None


def test_what_cannot_answer_or_keep_answers_is_refused_in_one_line(
    model: LoadedModel, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"is no causal language model.*--scorer persona"):
        OwnAnswers(dataclasses.replace(model, causal=False))
    (tmp_path / "other").write_text("not a data base, but long enough to be taken for one" * 40)
    answers = OwnAnswers(model)
    answers.keep(tmp_path / "other")
    with pytest.raises(OutputError, match=r"other: answers cannot be kept.*remove it"):
        answers([prompt_of(rows()[0])])
