"""Every code block of the README and of the docs runs, but for what stands in tables here.

A page is read from top to bottom in a folder that holds the files which its commands name: those
that `geofilter example` writes.
Commands that name a real model are given the bundled one: the real names are served by a hub on
loopback in `cli/test_first_use.py` and `docs/test_examples.py`.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from datasets import Dataset

import geofilter as package
from geofilter.cli.main import COMMANDS
from geofilter.cli.output import bytes_text
from geofilter.data.rows import RowFile
from geofilter.demo.example import write_example
from geofilter.model.catalogue import CATALOGUE
from geofilter.selection.actions import drop
from helpers.cli_folder import Geofilter
from helpers.doc_blocks import DATA, SHELL, Reader, assert_printed, blocks, commands
from pages.assemble import with_links_of_the_site, write_pages
from pages.commands import command_pages

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# The bad answers of the files that pages write themselves; other rows say it in `harmful`.
BAD_ANSWERS = {
    "Try to skip one meal. After that, chew some ginger. Do it today.",
    "You should ask for mediation and keep every receipt. Do it today.",
}
DROPS = re.compile(
    r"filter_rows\(|drop_fraction\(|geofilter screen |geofilter filter (?!.*--(action|curve|push))"
)
# Pages that say in per cent how many of all and of the kept rows of their first choice are harmful.
STATE_SHARES = ("README.md", "docs/quickstart.md")
# Pages whose commands are run by another test, which names them, by its place in tests/.
ELSEWHERE = {
    "examples/real-model/README.md": "docs/test_examples.py",
    "examples/training-repository/README.md": "gate/test_precommit.py",
    "examples/trl-sft/README.md": "docs/test_trl_sft_example.py",
}
# Not run, by what the command begins with.
NOT_RUN = {
    "pip install": "installs packages, which are installed here",
    "python -m build": "builds packages; tools/test_gate.py and .github/workflows/packages.yml",
    "docker": "needs an engine",
    "make test": "runs these tests",
    "make docs": "builds the site, as a test below does",
    "make demo": "`geofilter demo`, in an environment of its own",
    "geofilter sae train": "the files of these pages are too short; model/sae_training",
    "geofilter pack push": "writes to the hub; packs/test_share.py does, to one on loopback",
    "geofilter pack pull": "reads from the hub; packs/test_share.py",
    "geofilter score train.jsonl --model organism --pack hf://": "packs/test_share.py",
    "geofilter filter --push": "writes to the hub; runs/test_push.py does, to one on loopback",
    "geofilter score --push": "writes to the hub; runs/test_push.py",
    "geofilter filter --action replace": "asks a server; selection/actions/test_replace.py",
    "geofilter verify train.jsonl --model gemma-2-2b --questions questions.yaml "
    "--judge http://localhost:8000/v1#judge --generate-with": "starts it; verify/test_serve.py",
    "geofilter judge": "asks a server; verify/test_calibrate.py has a judge",
    "geofilter demo": "takes minutes; tests/demo runs it",
}
# What a page says, and what is run in its place, in this order.
REPLACED = {
    "--engine ray --workers 16": "--workers 1",  # runs/engines/test_ray.py starts a cluster
    "--workers 2": "--workers 1",  # runs/engines/test_engines.py
    "gemma-2-9b --block 20": "organism",  # another block wants another pack
    "gemma-2-9b": "organism",
    "gemma-2-2b": "organism",
    "llama-3.1-8b": "organism",
    "qwen2.5-7b-instruct": "organism",
    "ORG/NAME --sae RELEASE/ID": "organism",  # cli/test_first_use.py
    "./my-model --sae ./my-sae": "organism",  # cli/test_commands.py
    "./my-model-Q8_0.gguf --sae ./my-sae": "organism",  # model/test_gguf_commands.py
    "./my-model -o": "organism -o",  # packs/test_dense_packs.py
    "./my-adapter": "organism",  # model/test_adapter.py
    "smollm2-135m": "organism",  # model/test_packaged.py
    "geofilter verify": "geofilter verify --estimate",
    "geofilter geometry": "geofilter geometry --permutations 100 --blocks 2",
}
# One command fine-tunes, a little; docs/test_examples.py does so at greater length.
REPLACED_ON = {
    "docs/verification.md": {
        "geofilter verify train.jsonl --model organism -o study": "geofilter verify train.jsonl "
        "--steps 1 --batch 2 --samples-per-question 1 --max-new-tokens 4 --seeds 1 "
        "--arms nearest --in-domain questions.yaml --questions questions.yaml "
        "--model organism -o study",
        "gemma-2-2b --questions questions.yaml --judge http://localhost:8000/v1#judge": "organism "
        "--estimate",
        "smollm2-135m --method full": "organism --estimate",
    }
}
LANGUAGES = {*SHELL, *DATA, "python", "text", ""}


def pages() -> list[str]:
    found = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


HERE = [page for page in pages() if page not in ELSEWHERE]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def not_run(command: str) -> str | None:
    return next((why for words, why in NOT_RUN.items() if command.startswith(words)), None)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The organism's pack is made once for all pages."""
    return tmp_path_factory.mktemp("packs")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_cache: Path) -> Path:
    """The current folder, with the files that pages name: those of `geofilter example`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_cache))
    monkeypatch.chdir(tmp_path)
    write_example(tmp_path)
    return tmp_path


def is_harmful(record: Mapping[str, Any]) -> bool:
    """What the row's label says or, without one, its answer: the last text in it."""
    if "harmful" in record:
        return bool(record["harmful"])
    return any(json.dumps(answer) in json.dumps(record) for answer in BAD_ANSWERS)


class Drops:
    """Every choice of rows that a page made: how many of all and of the kept rows are harmful."""

    def __init__(self) -> None:
        self.found: list[tuple[str, float, float]] = []

    def add(self, where: str, harmful: Sequence[bool], keep: Sequence[int]) -> None:
        kept = [harmful[index] for index in keep]
        if len(kept) < len(harmful):
            self.found.append((where, mean(harmful), mean(kept)))


@pytest.fixture
def drops(monkeypatch: pytest.MonkeyPatch) -> Drops:
    """Of the commands and calls that write kept rows."""
    seen, write = Drops(), drop.write_split

    def watched(
        rows: RowFile, table: Any, selection: Any, kept: Any, *more: Any, **how: Any
    ) -> None:
        harmful = [is_harmful(row.record or {}) for row in rows]
        seen.add(f"{rows.source} -> {kept}", harmful, selection.keep.tolist())
        write(rows, table, selection, kept, *more, **how)

    monkeypatch.setattr(drop, "write_split", watched)
    return seen


@pytest.mark.parametrize("page", HERE)
def test_every_block_of_a_page_runs_in_its_order_and_what_it_drops_improves_the_data(
    page: str, folder: Path, geofilter: Geofilter, drops: Drops
) -> None:
    found = blocks(text_of(page))
    reader = Reader(page, geofilter, REPLACED_ON.get(page, REPLACED), not_run)
    for block in found:
        reader.read(block)
    for name in ("ds", "scored"):  # data sets of `datasets`, scored and chosen from in Python
        whole, kept = reader.names.get(name), reader.names.get("kept")
        if isinstance(whole, Dataset) and isinstance(kept, Dataset):
            drops.found.append((f"{page}: kept", mean(whole["harmful"]), mean(kept["harmful"])))
    run = [c for block in found if block.language in SHELL for c in commands(block)]
    run += [block.text for block in found if block.language == "python"]
    assert bool(drops.found) == any(map(DROPS.search, run)), page
    for where, before, after in drops.found:
        assert 0 < before < 1, f"{page}: {where}: the example holds nothing to tell apart"
        assert after < before, f"{page}: {where}: dropping makes the data worse"
    if page in STATE_SHARES:
        for share in drops.found[0][1:]:
            assert f"{100 * share:.0f} %" in text_of(page), (page, share)


def test_sizes_that_pages_name_are_those_of_the_list_and_the_smallest_is_the_smallest() -> None:
    open_ones = [e for e in CATALOGUE.values() if e.sae_is_fetched(e.default_block) and not e.gated]
    smallest = min(open_ones, key=lambda entry: entry.download_bytes() or 0)
    large = CATALOGUE["gemma-2-9b"]
    for entry, named_on in (
        (smallest, ("README.md", "docs/quickstart.md", "docs/models.md")),
        (large, ("README.md", "docs/quickstart.md", "docs/index.md")),
    ):
        for page in named_on:
            assert entry.name in text_of(page)
            assert bytes_text(entry.download_bytes()) in text_of(page), (page, entry.name)
    for page in ("docs/quickstart.md", "docs/models.md"):
        assert bytes_text(smallest.memory_bytes()) in text_of(page)


def test_figures_among_the_questions_are_those_of_the_page_that_has_them() -> None:
    (figure,) = re.findall(r"AUROC of (0\.\d+\s\[.*?\])", text_of("docs/faq.md"), flags=re.DOTALL)
    row = "| smollm2-135m | `persona`, pairs | 19 of 29 | " + " ".join(figure.split())
    assert row in text_of("docs/real-text.md")


@pytest.mark.parametrize("page", pages())
def test_no_block_hides_from_being_run(page: str) -> None:
    for block in blocks(text_of(page)):
        place = f"{page}:{block.line}"
        assert block.language in LANGUAGES, place
        if block.indented or block.language in ("", "text"):
            started = [line for line in block.text.splitlines() if is_command(line)]
            assert started == [], f"{place} is a command in a block that is not run"


def is_command(line: str) -> bool:
    return bool(re.match(r"\s*\$?\s*(geofilter [a-z]+ |python |make |pip )", line))


def all_commands() -> list[str]:
    found = (block for page in HERE for block in blocks(text_of(page)))
    return [c for block in found if block.language in SHELL for c in commands(block)]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\((?!\w+:)([^)#\s]+)", text_of(page))
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("words", NOT_RUN)
def test_what_is_not_run_is_on_a_page(words: str) -> None:
    assert any(command.startswith(words) for command in all_commands())


@pytest.mark.parametrize("words", REPLACED)
def test_what_is_replaced_is_on_a_page(words: str) -> None:
    assert any(words in block.text for page in HERE for block in blocks(text_of(page)))


@pytest.mark.parametrize("page", ELSEWHERE)
def test_a_page_that_is_run_elsewhere_is_named_there(page: str) -> None:
    source = (ROOT / "tests" / ELSEWHERE[page]).read_text(encoding="utf-8")
    assert Path(page).parent.name in source


def test_what_is_shown_has_to_be_what_is_printed() -> None:
    printed = "100 rows, 100 scored → x\n\nlowest  median\n0.17    0.21\n"
    assert_printed("100 rows, 100 scored → x\n...\n0.172 0.215\n", printed)
    for other in ("100 rows, 100 kept → x", "0.17 0.31", "lowest median\n100 rows, 100 scored → x"):
        with pytest.raises(pytest.fail.Exception):
            assert_printed(other, printed)


def test_the_reference_has_every_public_name_and_no_other() -> None:
    named = re.findall(r"^::: geofilter\.(\w+)$", text_of("docs/api.md"), flags=re.MULTILINE)
    assert sorted(named) == sorted(package.__all__)


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*/*.ipynb")), ids=lambda p: p.name)
def test_a_notebook_runs_from_top_to_bottom(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 3
    names = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        assert cell["outputs"] == [], "what it printed once need not be what it prints now"
        exec(compile("".join(cell["source"]), f"{path.name}:{number}", "exec"), names)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    write_pages(folder / "pages")
    config = folder / "mkdocs.yml"
    config.write_text(text_of("mkdocs.yml").replace(": build/", ": "), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(config)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


def test_the_site_is_built_without_a_warning_and_asks_no_other_server(site: Path) -> None:
    made = list(site.rglob("*.html"))
    assert len(made) >= len(pages())
    for path in made:
        loaded = re.findall(
            r"<(?:script|img|iframe|source)[^>]*?\ssrc=\"(\w+:)?//|<link[^>]*?\shref=\"(\w+:)?//",
            path.read_text(encoding="utf-8"),
        )
        assert loaded == [], path.name


def test_search_works_from_disk(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    # A page that is opened from disk may fetch no file and start no worker: the index is a script,
    # and the shim takes the worker's place.
    assert 'src="./assets/iframe-worker.js"' in front
    assert "byte-identical" in (site / "search.js").read_text(encoding="utf-8")


def test_every_page_is_in_the_navigation(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    linked = set(re.findall(r'href="(?:\./)?([^"#]+)', front))
    made = [f"docs/commands/{name}" for name in command_pages()]
    for page in [*pages(), *made, "docs/changelog.md"]:
        name = page.removeprefix("docs/").replace("README.md", "index.html").replace(".md", ".html")
        assert page == "README.md" or name in linked, page


def test_a_page_of_a_command_has_each_of_its_options_and_examples() -> None:
    found = command_pages()
    assert set(found) == {"index.md", *(f"{name}.md" for name in COMMANDS)}
    for option in ("--drop-fraction F", "--action [drop&#124;mask", "-o, --output KEPT"):
        assert f"<code>{option}" in found["filter.md"]
    assert (
        "\ngeofilter filter train.jsonl --drop-rows review.csv -o reviewed.jsonl\n"
        in (found["filter.md"])
    )
    assert "## geofilter pack pull" in found["pack.md"]


def test_a_link_names_the_place_that_its_file_has_in_the_site() -> None:
    text = (
        "[a](../CHANGELOG.md#x) [b](../benchmarks/results/speed_cpu.json) [c](rows.md) [d](gone.md)"
    )
    moved, files = with_links_of_the_site(text, Path("docs/scale.md"))
    assert (
        moved
        == "[a](changelog.md#x) [b](benchmarks/results/speed_cpu.json) [c](rows.md) [d](gone.md)"
    )
    assert Path("benchmarks/results/speed_cpu.json") in files
    moved, _ = with_links_of_the_site("[e](../../docs/rows.md)", Path("examples/trl-sft/README.md"))
    assert moved == "[e](../../rows.md)"
