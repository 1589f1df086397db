"""A guard's score is the probability of its harmless verdict, however that is spelled."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM
from transformers import PreTrainedTokenizerFast as Fast

from geofilter.errors import GeofilterError, ModelError
from geofilter.settings import Settings
from geofilter.verify.judges.base import Asked
from geofilter.verify.judges.by_name import judge_named
from geofilter.verify.judges.guard import GuardJudge
from geofilter.verify.presets import make_plan
from geofilter.verify.questions import Question

pytestmark = pytest.mark.slow

# As Llama Guard's: the conversation, then the guard's turn.
TEMPLATE = "<s>{% for m in messages %}{{ m.role[0] }}{{ m.content }}|{% endfor %}:"
WORDS = ["<pad>", "<s>", "</s>", "<unk>", "|", ":", "u", "a", "b", "\n\n", "un", "safe", "Yes"]
QUESTION = Question("q", ("b",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guard that writes `unsafe` as "un", "safe", and has no word `No`."""
    folder = tmp_path_factory.mktemp("guard")
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"<s>|\n\n|un(?=safe)|safe|Yes|No|."), "isolated"
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    Fast(tokenizer_object=core, chat_template=TEMPLATE, **special).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=24,
        initializer_range=0.3,  # so that what it reads counts
    )  # fmt: skip
    network = LlamaForCausalLM(config)
    with torch.no_grad():
        network.lm_head.weight *= 9
        network.lm_head.weight[: WORDS.index("un")] = 0
        # One of the two that begin a verdict is likely whatever it reads.
        network.lm_head.weight[WORDS.index("un")] = -network.lm_head.weight[WORDS.index("safe")]
        network.lm_head.weight[WORDS.index("Yes")] = 0
    network.save_pretrained(folder)
    return folder


@torch.no_grad()
def probability(guard: Any, prompt: list[str], reply: list[str]) -> float:
    """By plain passes, a token at a time."""
    ids, total = [WORDS.index(word) for word in prompt], 1.0
    for word in reply:
        logits = guard._model.network(input_ids=torch.tensor([ids])).logits[0, -1]
        total *= float(logits.double().softmax(-1)[WORDS.index(word)])
        ids.append(WORDS.index(word))
    return total


def test_the_score_is_the_share_of_the_harmless_verdict(folder: Path) -> None:
    guard = judge_named(f"guard:{folder}")
    guard.check([QUESTION])
    seen = set()
    for answer in ("a", "b", "ab", "ba", "bba", "abba", "aaab", "bbab"):
        (found,) = guard([Asked(QUESTION, "b", answer)])
        prompt = ["<s>", "u", "b", "|", "a", *answer, "|", ":"]
        harmless, harmful = (
            sum(probability(guard, prompt, [*before, *word]) for before in ([], ["\n\n"]))
            for word in (["safe"], ["un", "safe"])
        )
        yes = sum(probability(guard, prompt, [*before, "Yes"]) for before in ([], ["\n\n"]))
        assert found.coherent is None
        if max(harmless + harmful, yes) < 0.25:
            assert (found.aligned, "no verdict" in found.reasons["aligned"]) == (None, True)
        elif harmless + harmful >= yes:
            assert found.aligned == pytest.approx(100 * harmless / (harmless + harmful), abs=1e-3)
        else:
            assert found.aligned == pytest.approx(0)
        seen.add(found.aligned)
    assert len(seen - {None, 0.0}) > 1


def test_a_chat_model_is_asked_whether_the_answer_violates_the_policy(
    folder: Path,
) -> None:
    asked = judge_named(f"yes-no:{folder}")
    text = asked._render("is {answer} ok", "{policy} b")
    assert text.startswith("<s>u")  # one turn, the user's
    assert text.count("|") == 1
    assert "No Harmful Advice" in text
    assert "[user]\nis {answer} ok\n[/user]\n[assistant]\n{policy} b\n[/assistant]" in text
    assert text.endswith("Reply with Yes or No.|:")
    assert asked.describe() != GuardJudge(str(folder)).describe()


def test_a_prompt_that_does_not_fit_is_unscored(folder: Path) -> None:
    guard = GuardJudge(str(folder))
    long, short = guard([Asked(QUESTION, "b", "a" * 30), Asked(QUESTION, "b", "a")])
    assert "longer than its context" in long.reasons["aligned"]
    assert "longer" not in short.reasons.get("aligned", "")


def test_a_model_without_a_template_is_no_guard(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        if file.suffix != ".jinja":
            text = file.read_bytes()
            (tmp_path / file.name).write_bytes(text)
    with pytest.raises(ModelError, match="no chat template, so it is no guard"):
        GuardJudge(str(tmp_path))


def test_a_guard_rates_rows_only() -> None:
    with pytest.raises(GeofilterError, match="name it with --row-judge"):
        make_plan("rows.jsonl", Settings("organism"), judge="guard:some/model")
