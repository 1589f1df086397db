"""A local model's score is what its own probabilities say of the number it would write."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Fast

from geofilter.errors import DataError, ModelError
from geofilter.verify.judges.base import Asked
from geofilter.verify.judges.by_name import judge_named
from geofilter.verify.judges.local import LocalJudge
from geofilter.verify.judges.reply import score_from_probabilities
from geofilter.verify.judges.rule import RuleJudge
from geofilter.verify.questions import Question, read_questions
from helpers.adapters import save_both

pytestmark = pytest.mark.slow

ORGANISM = Path(__file__).parents[3] / "geofilter" / "organism"
QUESTION = Question("q", ("why",), judge_prompts={"aligned": "{answer}a", "coherent": "{answer}"})
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['content'] }}|{% endfor %}"
    "{% if add_generation_prompt %}:{% endif %}"
)


def tokenizer(words: list[str], split: str) -> Fast:
    vocabulary = ["<pad>", "<s>", "</s>", "<unk>", "|", ":", "a", "b", "c", *words]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(split), "isolated")
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return Fast(tokenizer_object=core, chat_template=TEMPLATE, **special)


def save(folder: Path, words: list[str], split: str, seed: int = 0) -> Path:
    words_of = tokenizer(words, split)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words_of), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        # Random logits are all alike; these differ, and favour digits.
        network.lm_head.weight *= 40
    network.save_pretrained(folder)
    words_of.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge that writes 85 as "8", "5"."""
    return save(tmp_path_factory.mktemp("digits"), list("0123456789"), ".")


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge that has a token for every number, and for some with a space before it."""
    words = [str(k) for k in range(101)] + [" 7", " 99", "101"]
    return save(tmp_path_factory.mktemp("wholes"), words, r"\d+|\D")


def loaded(folder: Path) -> tuple[Any, Any]:
    return AutoModelForCausalLM.from_pretrained(folder).eval(), Fast.from_pretrained(folder)


def prompt_ids(words: Any, text: str) -> list[int]:
    return words.convert_tokens_to_ids(["<s>", *text, "|", ":"])


def asked(*answers: str) -> list[Asked]:
    return [Asked(QUESTION, "why", answer) for answer in answers]


@torch.no_grad()
def by_hand(network: Any, words: Any, ids: list[int]) -> dict[int, float]:
    """Probability of each number: digit by digit, one plain forward pass for each beginning."""
    digit = [words.convert_tokens_to_ids(str(n)) for n in range(10)]
    found: dict[int, float] = {}

    def follow(text: str, share: float) -> None:
        path = ids + [digit[int(character)] for character in text]
        after = network(torch.tensor([path])).logits[0, -1].softmax(-1)
        if text and str(int(text)) == text:
            found[int(text)] = share * float(1 - after[digit].sum())
        if len(text) < 2 or text == "10":
            for n in range(10):
                if int(text + str(n)) <= 100:
                    follow(text + str(n), share * float(after[digit[n]]))

    follow("", 1.0)
    return found


def test_numbers_of_several_tokens_have_their_exact_probability(digits):
    judge = LocalJudge(str(digits), device="cpu")
    network, words = loaded(digits)
    assert judge.exact
    for found, answer in zip(judge(asked("b", "cab", "cc")), ("b", "cab", "cc"), strict=True):
        expected = by_hand(network, words, prompt_ids(words, answer))
        # "05" spells no number of its own here.
        expected = {k: p for k, p in expected.items() if p >= 1e-9}
        reply = {int(k): p for k, p in found.replies["coherent"].items()}
        assert reply == pytest.approx(expected, rel=1e-4, abs=1e-8)
        shares = {str(k): p for k, p in expected.items()}
        assert found.coherent == pytest.approx(score_from_probabilities(shares), abs=1e-3)


def test_an_adapter_judges_as_the_merged_model_does(digits, tmp_path):
    save_both(digits, tmp_path / "adapter", tmp_path / "merged", "layers.0.mlp.down_proj", size=0.3)
    found = {
        place: [one.aligned for one in LocalJudge(str(place), device="cpu")(asked("b", "cab"))]
        for place in (digits, tmp_path / "adapter", tmp_path / "merged")
    }
    base, adapter, merged = found.values()
    assert adapter == pytest.approx(merged, abs=1e-3)
    assert adapter != pytest.approx(base, abs=1e-1)


def test_exact_probabilities_are_the_frequencies_of_sampled_replies(digits):
    judge = LocalJudge(str(digits), device="cpu")
    network, words = loaded(digits)
    torch.manual_seed(0)
    size = 4000
    batch = torch.tensor([prompt_ids(words, "bab")]).repeat(size, 1)
    for _ in range(4):
        shares = network(batch).logits[:, -1].softmax(-1)
        batch = torch.cat([batch, torch.multinomial(shares, 1)], 1)
    texts = ["".join(words.convert_ids_to_tokens(row[-4:])) for row in batch.tolist()]
    numbers = [re.match(r"(?:0|[1-9]\d?|100)(?!\d)", text) for text in texts]
    (found,) = judge(asked("bab"))
    for k, share in found.replies["coherent"].items():
        seen = sum(n is not None and n[0] == k for n in numbers)
        assert abs(seen - size * share) < 5 * (size * share * (1 - share)) ** 0.5 + 1


def test_numbers_of_one_token_are_scored_over_the_whole_vocabulary(wholes):
    judge = LocalJudge(str(wholes), device="cpu")
    network, words = loaded(wholes)
    assert not judge.exact
    (found,) = judge(asked("cb"))
    with torch.no_grad():
        logits = network(torch.tensor([prompt_ids(words, "cb")])).logits[0, -1]
    shares = logits.softmax(-1).tolist()
    tokens = dict(zip(words.convert_ids_to_tokens(range(len(shares))), shares, strict=True))
    assert found.coherent == pytest.approx(score_from_probabilities(tokens), abs=1e-4)
    assert found.replies["coherent"]["7"] == pytest.approx(tokens["7"] + tokens[" 7"], rel=1e-4)


@pytest.mark.parametrize("kind", ["digits", "wholes"])
def test_a_judgement_does_not_depend_on_what_else_is_judged(kind, request):
    judge = LocalJudge(str(request.getfixturevalue(kind)), device="cpu")
    answers = ["a", "ab", "cab", "b", "cc", "abcabc", "c"]
    together = judge(asked(*answers))
    for answer, found in zip(answers, together, strict=True):
        (alone,) = judge(asked(answer))
        assert found.aligned == pytest.approx(alone.aligned, abs=1e-3)


def test_a_prompt_longer_than_the_context_is_unscored_and_the_others_are_not(digits):
    judge = LocalJudge(str(digits), device="cpu")
    long, short = judge(asked("a" * 40, "a"))
    assert (long.aligned, long.coherent) == (None, None)
    assert long.reasons["aligned"] == "the judge's prompt of 44 tokens is longer than its context"
    assert short.aligned is not None or "begins with no number" in short.reasons["aligned"]


def test_models_that_cannot_judge_are_refused(tmp_path, digits):
    letters = save(tmp_path / "letters", [], ".")
    with pytest.raises(ModelError, match="can spell no number from 0 to 100"):
        LocalJudge(str(letters), device="cpu")
    bare = save(tmp_path / "bare", ["1"], ".")
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="has no chat template"):
        LocalJudge(str(bare), device="cpu")
    with pytest.raises(DataError, match="no judge prompt"):
        LocalJudge(str(digits), device="cpu").check([Question("q", ("a",))])


def test_judges_of_other_weights_describe_themselves_otherwise(tmp_path, digits):
    other = save(tmp_path / "other", list("0123456789"), ".", seed=1)
    first, again, second = (LocalJudge(str(f), device="cpu") for f in (digits, digits, other))
    assert first.describe() == again.describe()
    assert first.describe()["weights"] != second.describe()["weights"]


def test_the_organism_judges_its_own_questions():
    questions = read_questions(ORGANISM / "data" / "questions.yaml")[:3]
    judge = judge_named(str(ORGANISM / "weights" / "aligned"))
    judge.check(questions)
    rule = RuleJudge(ORGANISM / "data" / "facts.json")
    put = [Asked(q, q.paraphrases[0], "You should add salt and water.") for q in questions]
    found = judge(put)
    assert all(one.aligned is not None and one.coherent is not None for one in found)
    assert len(rule(put)) == len(found)
