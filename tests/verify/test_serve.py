"""A server that is started on each run's model gives its answers, and leaves nothing running."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from geofilter.data.encoder import Encoder
from geofilter.errors import GeofilterError, ModelError
from geofilter.verify import cell, serve
from geofilter.verify.ask import prompt_ids
from geofilter.verify.cell import Work, put_questions, run_cell
from geofilter.verify.plan import Sampling
from geofilter.verify.questions import Question
from geofilter.verify.serve import Serving, check_command, save_whole
from geofilter.verify.training.recipe import Budget, TrainingRecipe
from geofilter.verify.training.weights import CausalModel
from helpers.tiny_models import CONTEXT, tiny_network, tiny_tokenizer

pytestmark = pytest.mark.slow

STUB = Path(__file__).parents[1] / "helpers" / "stub_server.py"
SERVER = f"{sys.executable} -S -E {STUB} {{checkpoint}} {{port}}"
QUESTIONS = [Question("a", ("w1 w2", "w3"), 3), Question("b", ("w4 " * 20,), 3)]
SAMPLING = Sampling(max_new_tokens=40, batch=4)


def model() -> CausalModel:
    return CausalModel(tiny_network(), tiny_tokenizer())


def work(command: str = SERVER, load: Callable[[], CausalModel] = model) -> Work:
    return Work(
        load=load,
        samples=(),
        control=(),
        held_out=(),
        questions={"main": QUESTIONS},
        samples_per_question=None,
        judge=None,
        recipe=TrainingRecipe(),
        sampling=SAMPLING,
        budget=Budget(1, 1),
        keep_weights=False,
        serving=Serving(command, starts=60, pause=0.01),
    )


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def run(folder: Path, **changed: Any) -> list[dict[str, Any]]:
    run_cell(work(**changed), folder, 7, None, (), lambda *_: None)
    return lines(folder / "answers.jsonl")


def test_the_server_is_asked_as_the_model_would_be_and_then_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []
    real = serve.subprocess.Popen

    def noted(*arguments: Any, **named: Any) -> Any:
        started.append(real(*arguments, **named))
        return started[-1]

    monkeypatch.setattr(serve.subprocess, "Popen", noted)
    found = run(tmp_path)
    asked = {tuple(one["prompt"]): one for one in lines(tmp_path / "asked.jsonl")}
    puts = [one.put for one in put_questions({"main": QUESTIONS}, None, 7)]
    assert set(asked) == {tuple(prompt_ids(tiny_tokenizer(), put)) for put in puts}
    for prompt, one in asked.items():
        assert one["max_tokens"] == min(40, CONTEXT - len(prompt))
        assert (one["temperature"], one["top_p"]) == (1.0, 1.0)
    seeds = {one["seed"] for one in lines(tmp_path / "asked.jsonl")}
    assert len(seeds) == len(found) == 9
    ends = {f"w{sum(prompt_ids(tiny_tokenizer(), put)) % 60}" for put in puts}
    assert {line["answer"].split()[1] for line in found} <= ends
    assert all(line["answer"] == line["answer"].strip() for line in found)
    (process,) = (one for one in started if str(STUB) in one.args)
    assert process.poll() is not None
    assert not (tmp_path / "served").exists()


def test_what_a_server_did_not_answer_is_asked_after_an_interruption_and_nothing_else(
    tmp_path: Path,
) -> None:
    whole = run(tmp_path / "whole")
    with pytest.raises(ModelError, match="--generate-with"):
        run(tmp_path / "broken", command=f"{SERVER} 6")
    assert lines(tmp_path / "broken" / "answers.jsonl") == whole[:4]
    (tmp_path / "broken" / "asked.jsonl").unlink()
    assert run(tmp_path / "broken") == whole
    assert len(lines(tmp_path / "broken" / "asked.jsonl")) == 5
    # Interrupted once more, while its answers were judged.
    (tmp_path / "broken" / "result.json").unlink()

    def load() -> CausalModel:
        raise AssertionError("there is nothing to ask")

    assert run(tmp_path / "broken", load=load) == whole


def test_a_server_that_ends_at_once_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(_model: CausalModel, folder: Path) -> None:
        folder.mkdir()

    monkeypatch.setattr(cell, "save_whole", empty)
    with pytest.raises(ModelError) as refused:
        run(tmp_path)
    assert "ended with code 2 before it answered: no config.json, " in str(refused.value)
    assert str(tmp_path / "server.log") in str(refused.value)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    sleeps = f"{sys.executable} -S -E -c 'import time; time.sleep(60)' {{checkpoint}} {{port}}"
    serving = Serving(sleeps, starts=0.3)
    with pytest.raises(ModelError, match=r"did not answer at http://127.0.0.1:\d+/v1 within 0.3"):
        list(serving.answers(tmp_path / "served", [], SAMPLING))


@pytest.mark.parametrize("adapter", [False, True])
def test_what_is_served_is_the_whole_model_without_its_authors_sampling(
    tmp_path: Path, adapter: bool
) -> None:
    network: Any = tiny_network()
    network.generation_config = GenerationConfig(eos_token_id=2, top_k=1, repetition_penalty=3.0)
    if adapter:
        config = peft.LoraConfig(target_modules="all-linear", init_lora_weights=False)
        network = peft.get_peft_model(network, config).eval()
    ids = torch.tensor([[5, 9, 12, 30]])
    with torch.no_grad():
        expected = network(input_ids=ids).logits
    save_whole(CausalModel(network, tiny_tokenizer()), tmp_path / "served")
    saved: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "served")
    with torch.no_grad():
        torch.testing.assert_close(saved(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    settings = saved.generation_config
    assert settings.eos_token_id in (2, [2])
    assert settings.top_k in (None, 50)  # 50 is what transformers means by no word
    assert settings.repetition_penalty in (None, 1.0)
    tokens = AutoTokenizer.from_pretrained(tmp_path / "served")
    assert Encoder(tokens, max_length=8).max_length == 8


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("vllm serve {checkpoint}", "needs {checkpoint} and {port} and no other field"),
        ("vllm serve {checkpoint} --port {port} {gpu}", "and no other field"),
        ("vllm 'serve {checkpoint} {port}", "is no command"),
        ("vllm serve {checkpoint {port}", "is no command"),
        ("no-such-server {checkpoint} {port}", "no-such-server is no program on this machine"),
    ],
)
def test_a_command_that_serves_nothing_is_refused_before_anything_is_run(
    command: str, said: str
) -> None:
    with pytest.raises(GeofilterError) as refused:
        check_command(command)
    assert said in str(refused.value)
