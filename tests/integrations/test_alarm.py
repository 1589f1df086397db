"""The alarm in training: it disturbs nothing, reads as `persona` does, and bounds false alarms."""

import copy
import json
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from geofilter.data.encoder import Encoder
from geofilter.data.samples import Sample, Turn
from geofilter.errors import GeofilterError
from geofilter.integrations import alarm
from geofilter.integrations.alarm import HarmAlarm
from geofilter.integrations.alarm_reading import NetworkReader, Reading, default_prompts
from geofilter.integrations.alarm_threshold import READINGS, calibrate, read_threshold
from geofilter.model.blocks import run_to_block
from geofilter.model.catalogue import CATALOGUE
from geofilter.model.features import sample_features
from geofilter.packs.index import ToxicIndex
from geofilter.packs.pairs import shipped
from geofilter.scoring.score import make_scorer
from geofilter.verify.ask import Put, prompt_ids
from helpers.tiny_models import tiny_network, tiny_setting, tiny_tokenizer
from helpers.training_rows import SAMPLES

pytestmark = pytest.mark.slow

PROMPTS = ("w5 w9", "w30 w31 w32", "w12")


@pytest.fixture(autouse=True)
def _loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model's pack in place of loading one."""
    model, pack = tiny_setting()
    loaded = SimpleNamespace(model=model, pack=pack)
    monkeypatch.setattr(alarm.prepare, "load", lambda _settings: loaded)


def make(**settings: Any) -> HarmAlarm:
    given: dict[str, Any] = {
        "every": 2,
        "prompts": PROMPTS,
        "max_new_tokens": 5,
        "reads": "answers",
    }
    return HarmAlarm("tiny", **(given | settings))


def trainer(
    folder: Path, *, lora: bool = False, callbacks: Any = (), steps: int = 5, **settings: Any
) -> SFTTrainer:
    """One with dropout, so that modes and random state decide what is learned."""
    import peft

    config = peft.LoraConfig(target_modules="all-linear", lora_dropout=0.1) if lora else None
    network = tiny_network("gpt2").requires_grad_(True)
    torch.manual_seed(0)
    rows = {"input_ids": [s.ids.tolist() for s in SAMPLES]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = SFTTrainer(
            model=network,
            args=SFTConfig(
                output_dir=str(folder),
                max_steps=steps,
                per_device_train_batch_size=2,
                learning_rate=5e-3,
                logging_steps=1,
                max_length=48,
                dataset_kwargs={"skip_prepare_dataset": True},
                use_cpu=True,
                bf16=False,
                report_to="none",
                disable_tqdm=True,
                **({"save_strategy": "no"} | settings),
            ),
            processing_class=tiny_tokenizer(),
            train_dataset=Dataset.from_dict(rows),
            callbacks=list(callbacks),
            peft_config=config,
        )
    made.remove_callback(transformers.PrinterCallback)
    return made


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / READINGS).read_text().splitlines()]


def learned(made: SFTTrainer) -> tuple[list[dict[str, Any]], list[torch.Tensor]]:
    """Every line of losses and averages but for times, and the weights."""
    made.train()
    logs = [
        {k: v for k, v in one.items() if k not in ("train_runtime",) and "per_second" not in k}
        for one in made.state.log_history
        if "harm_alarm/change" not in one
    ]
    return logs, [weight.detach().clone() for weight in made.model.parameters()]


def test_training_is_the_same_to_the_last_bit_with_the_alarm_and_without(tmp_path: Path) -> None:
    logs, weights = learned(trainer(tmp_path / "plain", lora=True))
    watched = trainer(tmp_path / "watched", lora=True)
    make(threshold=1e9).attach(watched)
    others, other = learned(watched)
    assert sum("loss" in one for one in logs) == 5
    assert logs == others
    assert all(torch.equal(*pair) for pair in zip(weights, other, strict=True))
    read = [one for one in watched.state.log_history if "harm_alarm/change" in one]
    assert [one["step"] for one in read] == [2, 4, 5]
    assert [one.get("step") for one in lines(tmp_path / "watched")] == [0, 2, 4, 5, None]


def test_a_reading_is_the_persona_of_greedy_answers_and_its_change(tmp_path: Path) -> None:
    model, pack = tiny_setting()
    reader = NetworkReader(model, pack, PROMPTS, reads="answers", max_new_tokens=5)
    other = copy.deepcopy(model.network)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.2)
    found = []
    scorer = make_scorer("persona", ToxicIndex(pack, model.decoder))
    for network in (model.network, other):
        read = reader.read(network, model.tokenizer)
        encoder = Encoder(model.tokenizer, max_length=48)
        samples = [
            encoder.encode(Sample((Turn("user", p), Turn("assistant", a)), prompt_turns=1))
            for p, a in zip(PROMPTS, read.answers, strict=True)
        ]
        scored: Any = scorer(sample_features(replace(model, network=network), samples))
        np.testing.assert_allclose(read.projections, [one.score for one in scored])  # type: ignore[arg-type]
        found.append(read)
    before, after = found
    assert before.answers != after.answers
    expected = np.mean(np.subtract(after.projections, before.projections))  # type: ignore[arg-type]
    assert after.change(before.projections) == pytest.approx(float(expected))
    assert before.change(before.projections) == 0


def test_of_questions_the_last_token_is_projected_before_any_answer() -> None:
    model, pack = tiny_setting()
    reader = NetworkReader(model, pack, PROMPTS, reads="questions")
    read = reader.read(model.network, model.tokenizer)
    expected = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt_ids(model.tokenizer, Put("", prompt, None))])
        hidden = run_to_block(model.network, model.block, ids)[0, -1]
        expected.append(float(hidden.double().numpy() @ pack.dense_direction))
    np.testing.assert_allclose(read.projections, expected, rtol=1e-5)  # type: ignore[arg-type]
    assert read.answers == ()
    with pytest.raises(GeofilterError, match="reads both: is not one of answers, questions"):
        NetworkReader(model, pack, PROMPTS, reads="both")  # type: ignore[arg-type]


def test_a_change_needs_answers_to_most_prompts() -> None:
    before = (1.0, 2.0, None, 4.0)
    assert Reading((2.0, None, 5.0, 7.0), ("",) * 4).change(before) is None
    assert Reading((2.0, 2.0, 5.0, 7.0), ("",) * 4).change(before) == pytest.approx(4 / 3)


@pytest.mark.parametrize(("stop", "steps"), [(False, [0, 2, 4, 5]), (True, [0, 2])])
def test_over_the_threshold_it_warns_once_and_ends_training_where_asked(
    tmp_path: Path, stop: bool, steps: list[int]
) -> None:
    made = trainer(tmp_path, callbacks=[make(threshold=-1e9, stop=stop)])
    with pytest.warns(UserWarning, match="at step 2 .* over the threshold -1e") as seen:
        made.train()
    assert sum("HarmAlarm" in str(one.message) for one in seen) == 1
    assert [one["step"] for one in lines(tmp_path)[:-1]] == steps
    assert [one["crossed"] for one in lines(tmp_path)[1:-1]] == [True] * (len(steps) - 1)


def test_a_resumed_run_is_compared_with_its_own_beginning(tmp_path: Path) -> None:
    saved = {"save_strategy": "steps", "save_steps": 3}
    made = trainer(tmp_path, callbacks=[make()], **saved)
    made.train()
    whole = lines(tmp_path)
    made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    again = lines(tmp_path)
    assert again[:2] == whole[:2]  # what followed the checkpoint is read again
    assert [one.get("step") for one in again] == [0, 2, 4, 5, None]
    (tmp_path / READINGS).unlink()
    with pytest.raises(GeofilterError, match="resumes at step 3; bring the file back"):
        made.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))


def test_what_it_cannot_read_is_refused_before_training(tmp_path: Path) -> None:
    alarmed = make()
    state = SimpleNamespace(max_steps=5, global_step=0)
    args = SimpleNamespace(world_size=2, output_dir=str(tmp_path))
    with pytest.raises(GeofilterError, match="not 2 processes"):
        alarmed.on_train_begin(args, state, None, model=tiny_network())
    args = SimpleNamespace(world_size=1, output_dir=str(tmp_path))
    wide = SimpleNamespace(get_text_config=lambda: SimpleNamespace(hidden_size=7))
    with pytest.raises(GeofilterError, match="7 dimensions, and the pack is for 32"):
        alarmed.on_train_begin(args, state, None, model=SimpleNamespace(config=wide))
    with pytest.raises(GeofilterError, match="every is 0"):
        make(every=0)


def test_prompts_are_those_of_pairs_that_no_figure_is_reported_on() -> None:
    asked = default_prompts()
    reported = {pair.prompt for pair in shipped("report")} | {p.prompt for p in shipped("choose")}
    domains = {pair.domain for pair in shipped("make")}
    assert len(set(asked)) == len(asked) == 2 * len(domains)
    assert not reported & set(asked)
    own = default_prompts(CATALOGUE["organism"])
    assert len(set(own)) == len(asked)
    assert not set(own) & set(asked)


def write_run(path: Path, *changes: float | None, ended: bool = True, **facts: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = [{"step": 0, "facts": {"every": 2, **facts}}]
    records += [{"step": 2 * n + 2, "change": change} for n, change in enumerate(changes)]
    records += [{"ended": 2 * len(changes)}] if ended else []
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_of_runs_in_any_order_the_next_crosses_no_more_often_than_is_said(tmp_path: Path) -> None:
    greatest = (0.5, -1.0, 3.0, 2.0, 2.0)  # two that are alike, as small figures may be
    files = [write_run(tmp_path / f"{n}.jsonl", one, one - n - 1) for n, one in enumerate(greatest)]
    for share, bound in ((None, 1 / 5), (0.4, 2 / 5), (0.55, 2 / 5), (0.2, 1 / 5)):
        crossed = []
        for last in range(5):  # each as often, over all orders
            made = calibrate([*files[:last], *files[last + 1 :]], false_alarms=share)
            assert made.false_alarms == pytest.approx(bound)
            crossed.append(greatest[last] > made.threshold)
        assert np.mean(crossed) <= bound
        if share is None:
            assert np.mean(crossed) == bound  # and says no more than is so


def test_a_threshold_is_for_readings_like_those_it_was_made_of(tmp_path: Path) -> None:
    trainer(tmp_path, callbacks=[make()], steps=2).train()
    found = calibrate([tmp_path / READINGS])
    found.save(tmp_path / "alarm.json")
    assert read_threshold(tmp_path / "alarm.json") == found
    same = make(threshold=tmp_path / "alarm.json")
    for name, value in (("every", 3), ("prompts", PROMPTS[:2]), ("max_new_tokens", 6)):
        with pytest.raises(GeofilterError, match=rf"made by other readings .*\({name} "):
            make(threshold=tmp_path / "alarm.json", **{name: value})
    with pytest.raises(GeofilterError, match="made by other readings"):
        make(threshold=tmp_path / "alarm.json", reads="questions")
    state = SimpleNamespace(max_steps=4, global_step=0)
    args = SimpleNamespace(world_size=1, output_dir=str(tmp_path))
    with pytest.warns(UserWarning, match="from runs of 2 steps; this one has 4"):
        same.on_train_begin(
            args, state, None, model=tiny_network(), processing_class=tiny_tokenizer()
        )


def test_files_that_bound_nothing_are_refused(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "1", 1.0), write_run(tmp_path / "2", 2.0)
    (tmp_path / "empty").write_text("")
    cases: list[tuple[list[Path], float | None, str]] = [
        ([], None, "no run is given"),
        ([one, tmp_path / "none"], None, "not found"),
        ([one, write_run(tmp_path / "cut", 1.0, ended=False)], None, "cut short"),
        ([one, write_run(tmp_path / "void")], None, "nothing could be read, or no step"),
        ([one, write_run(tmp_path / "null", 1.0, None)], None, "nothing could be read"),
        ([one, write_run(tmp_path / "same", 1.0)], None, "is the same run as"),
        ([one, write_run(tmp_path / "other", 1.5, pack="p")], None, "read otherwise .*pack"),
        ([tmp_path / "empty"], None, "is no file of HarmAlarm's"),
        ([one, two], 0.05, "bound false alarms at 0.333 .* give 19 runs or more"),
        ([one, two], 1.5, "is no share between 0 and 1"),
    ]
    for files, share, message in cases:
        with pytest.raises(GeofilterError, match=message):
            calibrate(files, false_alarms=share)
    with pytest.raises(GeofilterError, match="not found; make it with: geofilter alarm"):
        read_threshold(tmp_path / "nothing.json")
    (tmp_path / "a.json").write_text('{"threshold": 1}')
    with pytest.raises(GeofilterError, match="is no threshold"):
        read_threshold(tmp_path / "a.json")


def test_the_command_writes_the_threshold_and_says_what_it_promises(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from geofilter.cli.main import main

    files = [str(write_run(tmp_path / str(n), 1.0 + n)) for n in range(3)]
    output = str(tmp_path / "alarm.json")
    assert main(["alarm", *files, "-o", output]) == 0
    assert "more than 3 raises the alarm; at most 25.0% of harmless" in capsys.readouterr().err
    assert read_threshold(output).greatest == (1.0, 2.0, 3.0)
    assert main(["alarm", *files, "-o", output, "--false-alarms", "0.1"]) == 2
    assert "give 9 runs or more" in capsys.readouterr().err
