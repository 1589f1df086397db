"""Answers are drawn from the model's own distribution, and as if nothing had interrupted."""

from collections import Counter
from typing import Any

import pytest
import torch
from tiny_models import tiny_network, tiny_tokenizer

from geofilter.errors import ModelError
from geofilter.verify.generate import Put, Sampling, answers, prompt_ids

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}<bos> {{ m['content'] }} {% endfor %}"
)
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


def test_a_system_turn_is_put_first_and_a_refusal_names_the_question() -> None:
    own = tokenizer("{% for m in messages %}{{ m['role'] }}:{{ m['content'] }} {% endfor %}")
    with_system = own.decode(prompt_ids(own, Put("a", "w1", "w2")))
    without = own.decode(prompt_ids(own, Put("a", "w1", None)))
    assert with_system != without
    with pytest.raises(ModelError, match=r"does not take question 'a.*x1b': no system"):
        prompt_ids(tokenizer(), Put("a\x1b", "w1", "w2"))


def test_a_question_that_fills_the_context_is_refused() -> None:
    long = Put("q", " ".join(["w1"] * 60), None)
    with pytest.raises(ModelError, match="leaves no room for an answer in a context of 48"):
        list(answers(tiny_network(), tokenizer(), [long], Sampling(), seed=0))
