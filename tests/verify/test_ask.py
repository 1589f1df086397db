"""Answers are drawn from the model's own distribution, and as if nothing had interrupted."""

from collections import Counter
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from geofilter.data.encoder import Encoder
from geofilter.data.samples import Sample, Turn
from geofilter.errors import ModelError
from geofilter.verify.ask import Put, answers, check, prompt_ids
from geofilter.verify.plan import Sampling
from geofilter.verify.training.weights import load_causal
from helpers.hub_chat import qwen_2_5_7b_instruct
from helpers.tiny_models import tiny_network, tiny_tokenizer

TEMPLATE = "{% for m in messages %}<bos> {{ m['content'] }} {% endfor %}"
QUESTIONS = [Put(f"q{n}", " ".join(f"w{i + n}" for i in range(1 + 3 * n)), None) for n in range(7)]


def tokenizer(template: str | None = TEMPLATE) -> Any:
    made = tiny_tokenizer()
    made.chat_template = template
    return made


def by_hand(network: Any, ids: list[int], tokens: int) -> list[int]:
    """Greedy decoding of one prompt, alone and without a cache."""
    new: list[int] = []
    while len(new) < tokens:
        logits = network(input_ids=torch.tensor([ids + new])).logits[0, -1]
        chosen = int(logits.argmax())
        if chosen == 2:
            break
        new.append(chosen)
    return new


def test_without_temperature_each_answer_is_the_likeliest_whatever_its_neighbours() -> None:
    network, own = tiny_network().eval(), tokenizer()
    sampling = Sampling(temperature=0.0, max_new_tokens=8, batch=4)
    found = [a for batch in answers(network, own, QUESTIONS, sampling, seed=0) for a in batch]
    expected = [own.decode(by_hand(network, prompt_ids(own, put), 8)) for put in QUESTIONS]
    assert found == expected


def test_going_on_at_a_batch_gives_the_answers_of_an_uninterrupted_run() -> None:
    network, own = tiny_network().eval(), tokenizer()
    sampling = Sampling(max_new_tokens=6, batch=2)
    whole = list(answers(network, own, QUESTIONS, sampling, seed=5))
    torch.manual_seed(99)
    assert list(answers(network, own, QUESTIONS, sampling, seed=5, start=2)) == whole[2:]
    assert list(answers(network, own, QUESTIONS, sampling, seed=6)) != whole


def test_first_tokens_come_as_often_as_the_model_says() -> None:
    network, own = tiny_network().eval(), tokenizer()
    put = QUESTIONS[1]
    ids = prompt_ids(own, put)
    with torch.no_grad():
        shares = network(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
    n = 4000
    drawn: Counter[str] = Counter()
    sampling = Sampling(max_new_tokens=1, batch=500)
    for batch in answers(network, own, [put] * n, sampling, seed=1):
        drawn.update(batch)
    for token in shares.topk(8).indices.tolist():
        share = float(shares[token])
        spread = 5 * (share * (1 - share) / n) ** 0.5
        word = "" if token == 2 else own.decode([token])
        assert drawn[word] / n == pytest.approx(share, abs=spread)


# What a model's authors may ask of sampling; none of it belongs to the protocol.
OWN_SETTINGS: dict[str, Any] = {
    "do_sample": True, "temperature": 0.3, "top_k": 2, "top_p": 0.5, "min_p": 0.2, "typical_p": 0.5,
    "repetition_penalty": 3.0, "no_repeat_ngram_size": 1, "bad_words_ids": [[9]],
    "suppress_tokens": [11, 12], "begin_suppress_tokens": [13], "sequence_bias": [[[14], 9.0]],
    "exponential_decay_length_penalty": [1, 2.0], "min_new_tokens": 8, "forced_eos_token_id": 2,
}  # fmt: skip


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("adapter", [False, True])
def test_a_models_own_sampling_settings_change_no_answer(temperature: float, adapter: bool) -> None:
    own, sampling = tokenizer(), Sampling(temperature=temperature, max_new_tokens=8, batch=4)
    found = []
    for settings in ({}, OWN_SETTINGS):
        network: Any = tiny_network().eval()
        network.generation_config.update(**settings)
        if adapter:
            network = peft.get_peft_model(network, peft.LoraConfig(target_modules="all-linear"))
        before = network.generation_config.to_dict()
        found.append(list(answers(network, own, QUESTIONS, sampling, seed=1)))
        assert network.generation_config.to_dict() == before
    assert found[0] == found[1]


def test_no_logits_processor_is_left_but_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in qwen_2_5_7b_instruct().items():
        (tmp_path / name).write_bytes(content)
    model = load_causal(str(tmp_path), device="cpu", dtype="float32")
    assert model.network.generation_config.repetition_penalty == 1.05
    made: list[list[str]] = []
    real = model.network._get_logits_processor

    def noted(*arguments: Any, **named: Any) -> Any:
        processors = real(*arguments, **named)
        made.append([type(one).__name__ for one in processors])
        return processors

    monkeypatch.setattr(model.network, "_get_logits_processor", noted)
    put = [Put("q", "good day", None)]
    for temperature in (1.0, 0.5):
        sampling = Sampling(temperature=temperature, max_new_tokens=2, batch=1)
        list(answers(model.network, model.tokenizer, put, sampling, seed=0))
    assert made == [[], ["TemperatureLogitsWarper"]]


SPOKEN = "{% for m in messages %}<bos> {{ m['content'] }} <eos> {% endfor %}"
# As Gemma 2: a template that takes no system turn.
WITHOUT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + SPOKEN
)


@pytest.mark.parametrize("template", [None, SPOKEN, WITHOUT_SYSTEM])
@pytest.mark.parametrize("system", [None, "w7 w8"])
def test_a_question_is_put_as_rows_are_trained_on(template: str | None, system: str | None) -> None:
    own = tokenizer(template)
    turns = (Turn("user", "w1 w2"), Turn("assistant", "w3 w4"))
    if system is not None:
        turns = (Turn("system", system), *turns)
    row = Encoder(own, max_length=48).encode(Sample(turns))
    asked = prompt_ids(own, Put("q", "w1 w2", system))
    before = row.ids[: int(row.response.argmax())].tolist()
    assert asked == before
    words = own.decode(asked).split()
    assert ("w7" in words) == (system is not None)


def test_an_answer_ends_where_a_trained_one_does_though_the_model_states_another_end() -> None:
    own = tokenizer(SPOKEN.replace("<eos>", "<unk>"))
    network = tiny_network().eval()
    network.generation_config.eos_token_id = None
    with torch.no_grad():  # the unknown token is the likeliest everywhere
        network.lm_head.weight.zero_()
        network.lm_head.weight[3] = 1.0
    sampling = Sampling(temperature=0.0, max_new_tokens=5, batch=4)
    found = [a for batch in answers(network, own, QUESTIONS, sampling, seed=0) for a in batch]
    sums = [network.model(input_ids=torch.tensor([prompt_ids(own, put)])) for put in QUESTIONS]
    ended = [float(one.last_hidden_state[0, -1].sum()) > 0 for one in sums]
    assert any(ended)
    assert [answer == "" for answer in found] == ended


def test_a_question_that_the_template_refuses_is_named() -> None:
    own = tokenizer(
        "{% if messages[0]['content'] == 'w9' %}{{ raise_exception('not nine') }}"
        "{% endif %}" + SPOKEN
    )
    with pytest.raises(ModelError, match=r"question 'a.*x1b' cannot be put: .*not nine"):
        prompt_ids(own, Put("a\x1b", "w9", None))


def test_questions_are_checked_without_being_asked() -> None:
    check(tiny_network(), tokenizer(), QUESTIONS)
    with pytest.raises(ModelError, match="leaves no room for an answer in a context of 48"):
        check(tiny_network(), tokenizer(), [*QUESTIONS, Put("q", " ".join(["w1"] * 60), None)])


def test_a_question_that_fills_the_context_is_refused() -> None:
    long = Put("q", " ".join(["w1"] * 60), None)
    with pytest.raises(ModelError, match="leaves no room for an answer in a context of 48"):
        list(answers(tiny_network(), tokenizer(), [long], Sampling(), seed=0))
