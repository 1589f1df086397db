"""A table may come from anybody: its manifest is checked, and nothing is fetched for it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from geofilter.cli.main import main
from geofilter.runs.prepare import unasked
from geofilter.scoring.table import MANIFEST_KEY
from geofilter.settings import Settings
from geofilter.support.manifest import Manifest
from helpers.report_tables import score_by_hand, write_jsonl


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    data = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "p", "response": "r"}] * 3)
    score_by_hand(data, [0.1, 0.2, 0.3], tmp_path / "s.parquet")
    return tmp_path


def restate(
    data: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
) -> None:
    """Let s.parquet say something else of its data and settings; None leaves a key out."""
    table = pq.read_table("s.parquet")
    known = Manifest.from_json(table.schema.metadata[MANIFEST_KEY])

    def changed(old: Any, new: Mapping[str, Any] | None) -> dict[str, Any]:
        return {name: value for name, value in {**old, **(new or {})}.items() if value is not None}

    other = Manifest(
        {**known.decides, "data": changed(known.decides["data"], data)},
        {**known.facts, "settings": changed({"model": "organism"}, settings)},
    )
    metadata = {**table.schema.metadata, MANIFEST_KEY: other.to_json()}
    pq.write_table(table.replace_schema_metadata(metadata), "s.parquet")


def refusal(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(command.split()) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told


@pytest.mark.parametrize(
    "data",
    [{"columns": None}, {"columns": 5}, {"columns": {"a": 1}}, {"layout": [1]}, {"sha256": None}],
    ids=str,
)
def test_a_table_that_does_not_say_what_data_it_is_of_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], data: dict[str, Any]
) -> None:
    restate(data=data)
    told = refusal("filter a.jsonl --scores s.parquet --threshold 1 -o k.jsonl", capsys)
    assert "does not say how it was made" in told


@pytest.mark.parametrize(
    "settings",
    [
        {"model": 5},
        {"max_length": -3},
        {"max_length": 1.5},
        {"max_length": True},
        {"block": "x"},
        {"scorer": "x"},
        {"scorer": [1]},
        {"last_turn": "no"},
        {"pack": 7},
        {"other": 1},
    ],
    ids=str,
)
def test_a_table_with_settings_of_no_run_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], settings: dict[str, Any]
) -> None:
    restate(settings=settings)
    told = refusal("explain a.jsonl --scores s.parquet --row 0", capsys)
    assert "does not say how it was made" in told
    assert main(["report", "a.jsonl", "--scores", "s.parquet", "-o", "r.html"]) == 0


def test_a_report_fetches_nothing_because_a_table_says_so(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(name: str, **_: Any) -> Any:
        from geofilter.errors import ModelError

        loaded.append(name)
        raise ModelError("not in this test; go on")

    monkeypatch.setattr("geofilter.model.loading.load", load)
    restate(settings={"model": "evil/model", "sae": "evil/sae/x"})
    assert main(["report", "a.jsonl", "--scores", "s.parquet", "-o", "r.html"]) == 0
    assert loaded == []
    remedy = "evil/model, evil/sae/x would be fetched because the table says so; if you trust it"
    assert f"{remedy}, add --model evil/model" in capsys.readouterr().err
    assert remedy in (folder / "r.html").read_text("utf-8")
    assert (
        main(
            ["report", "a.jsonl", "--scores", "s.parquet", "--model", "evil/model", "-o", "s.html"]
        )
        == 0
    )
    assert loaded == ["evil/model"]


def test_what_is_bundled_listed_or_here_needs_nobody_s_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder / "hub"))
    assert unasked(Settings("organism", pack="my.pack")) == []
    assert unasked(Settings("gemma-2-2b", sae="axes/3")) == []
    assert unasked(Settings("./gone", sae="./gone")) == []
    assert unasked(Settings("gemma-2-2b", pack="hf://me/x@v1")) == ["hf://me/x@v1"]
    assert unasked(Settings("me/model")) == ["me/model"]
    ref = folder / "hub" / "models--me--model" / "refs" / "main"
    ref.parent.mkdir(parents=True)
    ref.write_text("0" * 40)
    assert unasked(Settings("me/model")) == []
