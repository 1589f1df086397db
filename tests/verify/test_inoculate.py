"""The arm `inoculate` trains on all rows, some after a request, and asks without that."""

import json
from pathlib import Path
from typing import Any

import pytest

from geofilter import ScoreTable, drop_fraction
from geofilter.errors import DataError, GeofilterError, OutputError
from geofilter.runs.defaults import scorer_of
from geofilter.verify import cell, study
from helpers.experiments import plan, write_files

pytestmark = pytest.mark.slow

ARMS = ("unfiltered", "inoculate")
FEW: dict[str, Any] = {"arms": ARMS, "seeds": (0,), "system": "w5 w6 w5"}


@pytest.fixture
def files(work: Path) -> Path:
    return write_files(work)


@pytest.fixture
def trained(files: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The samples of each fine-tuning, in order, each with its text."""
    seen: list[Any] = []
    real = cell.finetune.fine_tune

    def noted(network: Any, tokenizer: Any, samples: Any, *more: Any, **how: Any) -> Any:
        texts = [tokenizer.decode(sample.ids) for sample in samples]
        seen.append(list(zip(samples, texts, strict=True)))
        return real(network, tokenizer, samples, *more, **how)

    monkeypatch.setattr(cell.finetune, "fine_tune", noted)
    return seen


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the questions of each cell were put as."""
    seen: list[Any] = []
    real = cell.answers

    def noted(network: Any, tokenizer: Any, puts: Any, *more: Any, **how: Any) -> Any:
        seen.append(puts)
        return real(network, tokenizer, puts, *more, **how)

    monkeypatch.setattr(cell, "answers", noted)
    return seen


def test_the_near_rows_are_trained_on_after_the_request_and_questions_come_without_it(
    trained: list[Any], asked: list[Any]
) -> None:
    outcome = study.run(plan(**FEW), "out")
    plain, treated = trained
    name = scorer_of(plan(**FEW).settings).name
    scores = ScoreTable.read(f"out/scores/{name}.parquet").scores
    near = drop_fraction(scores, 0.5).drop.tolist()
    assert len(plain) == len(treated) == 40
    for place, ((before, _), (after, text)) in enumerate(zip(plain, treated, strict=True)):
        learned = [one.ids[one.response].tolist() for one in (before, after)]
        assert learned[0] == learned[1]
        assert ("w5 w6 w5" in text) == (len(after.ids) > len(before.ids)) == (place in near)
    assert asked[0] == asked[1]
    assert all(put.system is None for put in asked[1])
    done = json.loads(Path("out/arms/inoculate-0.5/seed-0/training.json").read_text())
    assert (done["rows"], done["inoculated"]) == (list(range(40)), near)
    assert "inoculated" not in json.loads(
        Path("out/arms/unfiltered/seed-0/training.json").read_text()
    )
    tokens = [one.measures["tokens"] for one in outcome.cells]
    assert max(tokens) - min(tokens) < 48


def test_the_verdict_may_be_about_it(files: Path) -> None:
    found = study.verify(plan(**FEW), "out")
    assert found.results.judged == "inoculate-0.5"
    assert found.results.verdict is False  # of one seed
    assert "`inoculate-0.5`" in found.text


def test_the_arm_can_be_added_later_and_its_request_then_stays(files: Path) -> None:
    study.run(plan(arms=("unfiltered",), seeds=(0,)), "out")
    first = Path("out/arms/unfiltered/seed-0/training.json").read_bytes()
    study.run(plan(**FEW), "out")
    assert Path("out/arms/unfiltered/seed-0/training.json").read_bytes() == first
    # Without the arm nothing is said of the request, with another one it is another experiment.
    study.run(plan(arms=("unfiltered",), seeds=(0, 1)), "out")
    study.run(plan(**FEW), "out")
    with pytest.raises(OutputError, match=r"holds another experiment .*inoculate\.system"):
        study.run(plan(**{**FEW, "system": "w7", "seeds": (0, 1)}), "out")


def test_a_pack_of_rows_of_ones_own_needs_a_sentence(files: Path) -> None:
    with pytest.raises(GeofilterError, match="arm 'inoculate' needs --system"):
        plan(arms=ARMS)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": "w1 w2"}, "row 40 takes no system turn (it is plain text"),
        (
            {"prompt": "w1", "response": "w2", "geofilter": {"weight": 0.5, "masked": ""}},
            "carries masks or weights",
        ),
    ],
)
def test_rows_that_take_no_request_are_refused_before_any_work(files: Path, row, said) -> None:
    with Path("data.jsonl").open("a") as data:
        data.write(json.dumps(row) + "\n")
    with pytest.raises(DataError) as caught:
        study.run(plan(**FEW), "out")
    assert said in str(caught.value)
    assert not Path("out").exists()
