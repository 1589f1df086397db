"""The default contrast sets: which texts of RealToxicityPrompts they hold."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from geofilter.data.samples import Sample
from geofilter.packs import rtp
from geofilter.packs.contrast import Contrast
from geofilter.packs.rtp import Prompts
from helpers.hub_repos import toxicity_prompts

COMMIT = "0" * 40


class Echo:
    """An encoder that gives back the sample it was given."""

    def encode(self, sample: Sample) -> Any:
        return sample


def part(text: str, toxicity: object) -> dict[str, object]:
    return {"text": text, "toxicity": toxicity}


def row(prompt: object, continuation: object) -> str:
    return json.dumps({"prompt": prompt, "continuation": continuation})


def read(path: Path, *lines: str) -> tuple[Contrast, Contrast]:
    if lines:
        path.write_text("\n".join(lines) + "\n")
    return rtp.read(Prompts(path, COMMIT), Echo())  # type: ignore[arg-type]


def texts(contrast: Contrast) -> list[str]:
    return [sample.text for sample in contrast.samples]  # type: ignore[attr-defined]


def kinds(rows: list[dict[str, Any]], wanted: set[str]) -> dict[str, int]:
    """How many of the texts `wanted` are prompts, and how many continuations."""
    names = ("prompt", "continuation")
    return {name: len(wanted & {row[name]["text"] for row in rows}) for name in names}


def test_the_sets_are_the_two_ends_of_toxicity(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(toxicity_prompts(ends=12))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    parts = [row[name] for row in rows for name in ("prompt", "continuation")]
    judged = [part for part in parts if part["toxicity"] is not None]
    toxic, benign = read(path)
    assert set(texts(toxic)) == {part["text"] for part in judged if part["toxicity"] >= 0.75}
    assert set(texts(benign)) == {part["text"] for part in judged if part["toxicity"] <= 0.1}
    assert len(toxic.samples) == len(benign.samples) == 24


def test_both_sets_hold_as_many_prompts_and_as_many_continuations(tmp_path):
    path = tmp_path / "prompts.jsonl"
    lines = [row(part(f"a{n}", 0.9), part("-", 0.5)) for n in range(9)]
    lines += [row(part("-", 0.5), part(f"b{n}", 0.9)) for n in range(2)]
    lines += [row(part(f"c{n}", 0.0), part("-", 0.5)) for n in range(4)]
    lines += [row(part("-", 0.5), part(f"d{n}", 0.0)) for n in range(7)]
    rows = [json.loads(line) for line in lines]
    for contrast in read(path, *lines):
        assert kinds(rows, set(texts(contrast))) == {"prompt": 4, "continuation": 2}


def test_the_choice_does_not_depend_on_the_order_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(rtp, "ROWS", 10)
    lines = toxicity_prompts().decode().splitlines()
    before = read(tmp_path / "a.jsonl", *lines)
    random.Random(1).shuffle(lines)
    after = read(tmp_path / "b.jsonl", *lines)
    assert [texts(contrast) for contrast in before] == [texts(contrast) for contrast in after]
    assert [len(contrast.samples) for contrast in before] == [10, 10]


def test_a_sentence_gives_one_text_at_most(tmp_path):
    lines = [row(part(f"a{n}", 0.9), part(f"b{n}", 0.9)) for n in range(30)]
    lines += [row(part(f"c{n}", 0.0), part(f"d{n}", 0.0)) for n in range(30)]
    for contrast in read(tmp_path / "prompts.jsonl", *lines):
        numbers = [text[1:] for text in texts(contrast)]
        assert len(set(numbers)) == len(numbers) > 10
        assert len({text[0] for text in texts(contrast)}) == 2


def test_rows_without_a_toxicity_are_skipped_and_counted(tmp_path):
    lines = [row(part("a", 0.9), part("b", None)), row(part("c", None), part("d", 0.0))]
    lines += [row("text", part("e", 0.9)), row(part("f", "0.9"), part("g", 0.0))]
    lines += [row(part(7, 0.9), part("h", 0.0)), '{"prompt": {}', "[1]"]
    # No number at all, and one beyond every float.
    lines += [row(part("i", float("nan")), part("", 0.5)), row(part("j", 10**400), part("", 0.5))]
    lines += [row(part("k", 0.9), part("", 0.5)), row(part("l", 0.05), part("", 0.5))]
    toxic, benign = read(tmp_path / "prompts.jsonl", *lines)
    assert (texts(toxic), texts(benign)) == (["k"], ["l"])
    assert toxic.skipped == benign.skipped == {"no_toxicity": 7, "unreadable": 2}


def test_a_pack_records_data_set_revision_thresholds_and_rows(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(toxicity_prompts(ends=5))
    toxic, benign = (contrast.describe() for contrast in read(path))
    assert toxic == {
        "source": "allenai/real-toxicity-prompts (toxic)",
        "sha256": benign["sha256"],
        "rows": 10,
        "skipped": {"no_toxicity": 10},
        "dataset": "allenai/real-toxicity-prompts",
        "file": "prompts.jsonl",
        "revision": COMMIT,
        "toxicity_from": 0.75,
    }
    assert benign["toxicity_to"] == 0.1
    json.dumps([toxic, benign])


@pytest.mark.parametrize("name", ["ROWS", "TOXIC_FROM", "BENIGN_TO", "DATASET", "FILE"])
def test_the_recipe_holds_all_that_decides(name):
    assert getattr(rtp, name) in rtp.DEFINITION.values()
