"""Rows go to a data set on the hub with a card, private unless asked; each refusal is one line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, load_dataset
from huggingface_hub import constants
from markdown_it import MarkdownIt

from geofilter.runs.data_card import Contents, card
from helpers.cli_folder import Geofilter, Outcome
from helpers.loopback_hub import TOKEN, TOKEN_WITHOUT_ACCESS, refusing_endpoint
from helpers.loopback_upload import UploadHub
from helpers.markup import Seen
from helpers.report_payloads import PAYLOADS

pytestmark = pytest.mark.slow

FILTER = "filter data.jsonl --scores data.scores.parquet --overwrite"
KEPT = f"{FILTER} --drop-fraction 0.25 -o kept.jsonl --push hf://datasets"


@pytest.fixture(scope="module")
def server() -> Iterator[UploadHub]:
    with UploadHub() as hub:
        yield hub


@pytest.fixture
def hub(server: UploadHub, work: Path, monkeypatch: pytest.MonkeyPatch) -> UploadHub:
    """The loopback hub, with a token that may write, for commands in this process."""
    monkeypatch.setattr(constants, "ENDPOINT", server.endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return server


def files(hub: UploadHub, name: str) -> dict[str, bytes]:
    held = hub.repositories[f"datasets/me/{name}"].files
    return {path: c if isinstance(c, bytes) else c.read_bytes() for path, c in held.items()}


def loaded(hub: UploadHub, name: str, folder: Path) -> list[dict[str, Any]]:
    """The rows as `datasets` finds them by the card, of a copy of the repository."""
    for path, content in files(hub, name).items():
        (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / path).write_bytes(content)
    return load_dataset(str(folder / name), cache_dir=str(folder / "cache"))["train"].to_list()


def says(done: Outcome, *expected: str) -> None:
    """The command failed with one line on standard error, which holds all that is expected."""
    assert done.code == 2, done.err
    (line,) = done.err.splitlines()
    for part in ("geofilter: error: ", *expected):
        assert part in line


def test_kept_rows_are_pushed_privately_with_a_card_that_says_what_made_them(
    hub: UploadHub, geofilter: Geofilter, tmp_path: Path
) -> None:
    done = geofilter(f"{KEPT}/me/kept")
    assert done.code == 0, done.err
    assert f"{hub.endpoint}/datasets/me/kept/commit/" in done.out
    assert "datasets/me/kept" in hub.private
    held = files(hub, "kept")
    assert set(held) == {".gitattributes", "README.md", "geofilter.json", "train.jsonl"}
    assert held["train.jsonl"] == Path("kept.jsonl").read_bytes()
    lines = Path("kept.jsonl").read_text().splitlines()
    assert loaded(hub, "kept", tmp_path) == [json.loads(line) for line in lines]
    text = held["README.md"].decode()
    for row in ("rows | 40", "kept | 30", "dropped | 10", "drop fraction | 0.25", "model | model"):
        assert f"| {row} |" in text
    for part in ("my.pack", "persona", "## What this cannot tell", "torch"):
        assert part in text
    assert str(Path.cwd()) not in text + held["geofilter.json"].decode()
    assert "safe" not in text
    said = json.loads(held["geofilter.json"])
    assert (said["figures"]["kept"], said["figures"]["drop fraction"]) == (30, 0.25)


def test_rows_that_screen_keeps_are_pushed_as_filter_does(
    hub: UploadHub, geofilter: Geofilter
) -> None:
    # The table that `score` made of the same data is taken.
    screen = "screen data.jsonl --model model --sae sae --pack my.pack --scores data.scores.parquet"
    says(geofilter(f"{screen} --drop-fraction 0.25 -o - --push hf://datasets/me/x"), "with -o")
    push = "--push hf://datasets/me/screened --public --json"
    done = geofilter(f"{screen} --drop-fraction 0.25 -o kept.jsonl {push}")
    assert done.code == 0, done.err
    address = json.loads(done.out)["filter"]["pushed"]
    assert address.startswith(f"{hub.endpoint}/datasets/me/screened/commit/")
    assert "datasets/me/screened" not in hub.private
    held = files(hub, "screened")
    assert held["train.jsonl"] == Path("kept.jsonl").read_bytes()
    for row in ("kept | 30", "drop fraction | 0.25", "model | model"):
        assert f"| {row} |" in held["README.md"].decode()


def test_another_push_replaces_the_rows_and_leaves_other_files(
    hub: UploadHub, geofilter: Geofilter
) -> None:
    assert geofilter(f"{KEPT}/me/twice").code == 0
    hub.repositories["datasets/me/twice"].put("LICENSE", b"mine")
    again = f"{FILTER} --threshold 0 -o kept.jsonl.gz --push hf://datasets/me/twice --json"
    done = geofilter(again)
    assert done.code == 0, done.err
    assert json.loads(done.out)["pushed"].startswith(f"{hub.endpoint}/datasets/me/twice/commit/")
    held = files(hub, "twice")
    assert {"LICENSE", "train.jsonl.gz"} < set(held)
    assert "train.jsonl" not in held


def test_all_rows_are_pushed_with_their_scores(
    hub: UploadHub, geofilter: Geofilter, tmp_path: Path
) -> None:
    settings = "--model model --sae sae --pack my.pack -o data.scores.parquet"
    done = geofilter(f"score data.jsonl {settings} --push hf://datasets/me/scored --public")
    assert done.code == 0, done.err
    assert "datasets/me/scored" not in hub.private
    rows = loaded(hub, "scored", tmp_path)
    records = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in rows] == [record["prompt"] for record in records]
    assert sorted(row["geofilter"]["rank"] for row in rows) == list(range(1, 41))
    nearest = min(rows, key=lambda row: row["geofilter"]["rank"])
    assert nearest["geofilter"]["score"] == max(row["geofilter"]["score"] for row in rows)


def test_rows_of_a_saved_data_set_are_found_by_the_card(
    hub: UploadHub, geofilter: Geofilter, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in Path("data.jsonl").read_text().splitlines()]
    Dataset.from_list(rows).save_to_disk("saved")
    Path("list.jsonl").write_text("".join(f'{{"row": {n}}}\n' for n in range(39)))
    command = "filter saved --drop-rows list.jsonl -o kept --push hf://datasets/me/folder"
    done = geofilter(command)
    assert done.code == 0, done.err
    assert loaded(hub, "folder", tmp_path) == rows[39:]
    assert "| list | list.jsonl |" in files(hub, "folder")["README.md"].decode()


def test_what_the_hub_refuses_is_refused_in_one_line_before_a_file_is_written(
    hub: UploadHub, geofilter: Geofilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("datasets/me/foreign", {"README.md": b"mine", "data.csv": b"a\n"})
    says(geofilter(f"{KEPT}/me/foreign"), "me/foreign", "did not push", "another name")
    hub.add("datasets/me/shown", {"geofilter.json": b"{}"})
    says(geofilter(f"{KEPT}/me/shown"), "exists and is public", "/settings")
    says(geofilter(f"{KEPT}/me/kept#test"), "names a part")
    says(geofilter(f"{KEPT}/nowhere"), "hf://datasets/ORG/NAME")
    with monkeypatch.context() as without:
        without.setattr("huggingface_hub.get_token", lambda: None)
        says(geofilter(f"{KEPT}/me/new"), "needs a token", "hf auth login")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    says(geofilter(f"{KEPT}/me/new"), "offline mode is on", "HF_HUB_OFFLINE")
    assert not Path("kept.jsonl").exists()


def test_a_hub_that_does_not_answer_or_does_not_let_write_says_what_to_do(
    hub: UploadHub, geofilter: Geofilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(geofilter(f"{KEPT}/org/new"), "org/new", "may not write", "write access")
    monkeypatch.setenv("HF_TOKEN", TOKEN_WITHOUT_ACCESS)
    says(geofilter(f"{KEPT}/me/new"), "may not write")
    monkeypatch.setattr(constants, "ENDPOINT", refusing_endpoint())
    says(geofilter(f"{KEPT}/me/new"), "cannot be reached", "HF_ENDPOINT")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--drop-fraction 0.1 -o - --push hf://datasets/me/x", "name the file with -o"),
        ("--drop-fraction 0.1 -o x --public", "--public goes with --push"),
        ("--drop-fraction 0.1 -o x --action mask --push hf://datasets/me/x", "--action out"),
        ("--curve --push hf://datasets/me/x", "--curve writes nothing"),
    ],
)
def test_what_does_not_go_with_a_push_is_a_mistake_of_typing(
    work: Path, geofilter: Geofilter, words: str, expected: str
) -> None:
    says(geofilter(f"{FILTER} {words}"), expected)


def test_names_that_would_act_are_only_text_on_the_card() -> None:
    hostile = [f"{payload}|\n---\n# x\n" for payload in PAYLOADS]
    contents = Contents(
        repo="me/kept",
        files="train.jsonl",
        about="Rows.",
        source=hostile[0],
        read=hostile[1],
        figures={f"figure {n}": text for n, text in enumerate(hostile)},
        limits=[],
        table=None,
    )
    header, _, body = card(contents).removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(header)["configs"][0]["data_files"][0]["path"] == "train.jsonl"
    page = Seen(MarkdownIt("commonmark", {"html": True}).enable("table").render(body))
    allowed = {"h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code"}
    assert set(page.elements) <= allowed
    assert page.elements.count("h1") == 1
    assert page.elements.count("tr") == len(hostile) + 3
    assert not page.attributes
