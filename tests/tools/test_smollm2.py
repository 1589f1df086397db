"""What SmolLM2 is asked, and how its answers are sampled."""

from pathlib import Path

import pytest
import torch

from helpers.tiny_models import VOCABULARY, tiny_network
from pairs import questions
from smollm2.decoding import Sampler
from smollm2.prompts import prompts

EVALUATION = Path(__file__).parents[3] / "shared" / "data" / "eval"


def test_the_prompts_are_thousands_and_different():
    asked = prompts()
    assert len(asked) > 4000
    assert len(set(asked)) == len(asked)
    assert asked == prompts()
    assert all(prompt == prompt.strip() and "{}" not in prompt for prompt in asked)


@pytest.mark.skipif(not EVALUATION.exists(), reason="the evaluation questions are not here")
def test_no_prompt_is_an_evaluation_question():
    known = {" ".join(question.text.lower().split()) for question in questions.read(EVALUATION)}
    assert known
    assert not known & {prompt.lower() for prompt in prompts()}


def test_prompts_of_unlike_lengths_are_continued_as_the_network_would_alone():
    network = tiny_network()
    chance = torch.Generator().manual_seed(0)
    asked = [torch.randint(4, VOCABULARY, (n,), generator=chance).tolist() for n in (5, 9, 3)]
    sampled = Sampler(network).sample(asked, end=2, most=6, temperature=1e-4, seed=0)
    for prompt, answer in zip(asked, sampled, strict=True):
        ids = torch.tensor([prompt])
        for token in answer:
            assert int(network(ids).logits[0, -1].argmax()) == token
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
        assert len(answer) == 6 or int(network(ids).logits[0, -1].argmax()) == 2
