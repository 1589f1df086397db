"""Answers are drawn from the model's own distribution, and as if nothing had interrupted."""

from collections import Counter
from typing import Any

import pytest
import torch
from tiny_models import tiny_network, tiny_tokenizer

from geofilter.conversation import Encoder
from geofilter.errors import ModelError
from geofilter.layouts import Sample
from geofilter.messages import Turn
from geofilter.verify.generate import Put, Sampling, answers, check, prompt_ids

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
