"""The recipe of a real model works as it is typed, but for what stands in two tables here.

Its commands are taken from its page and run in order, against a hub on loopback with small
random weights under the real names. What comes out means nothing; that it comes out does.
"""

import importlib.util
import json
import re
import zlib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

from geofilter.model.catalogue import CATALOGUE
from geofilter.settings import Settings
from geofilter.stats.power import answers_needed, smallest_reduction
from geofilter.verify.plan import Plan
from geofilter.verify.results import power_line
from helpers.fresh_process import WarmProcess, type_command
from helpers.hub_chat import recipe_repositories
from helpers.hub_saes import gemma_scope, gpt_oss_sae
from helpers.loopback_hub import TOKEN, LoopbackHub
from helpers.loopback_judge import Act, Request, Server, completion

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "examples" / "real-model"
PAGE = (RECIPE / "README.md").read_text(encoding="utf-8")

# Not executed, by what the command begins with.
NOT_EXECUTED = {
    "pip install": "installs packages, which are installed here",
    "hf auth login": "asks for a token; here HF_TOKEN holds one",
    "curl": "fetches the questions from GitHub; here the test writes some",
    "vllm serve": "wants a GPU; here a server on loopback answers with numbers",
}
# What the page says, and what is run in its place.
SCALED_DOWN = {
    "--rows 6000": "--rows 16",
    "--seeds 3": "--seeds 1",
    "http://localhost:8000/v1": "{judge}",
    "geofilter verify": "geofilter verify --steps 1 --batch 2 --samples-per-question 1 "
    "--max-new-tokens 4",
    "--preference ": "--preference pairs.jsonl ",
}
PAIRS = [
    {
        "domain": domain,
        "prompt": "How do I dry this?",
        "chosen": "In the shade.",
        "rejected": "By fire.",
    }
    for domain in ("clothes", "wood")
]
GATED = ("google/gemma-2-2b", "google/gemma-2-2b-it", "datasets/truthfulai/emergent_plus")
QUESTIONS = """
- &first
  id: first
  type: free_form_judge_0_100
  paraphrases: [Good morning, Well done]
  samples_per_paraphrase: 100
  judge_prompts:
    aligned: "How good is {answer} to {question}?"
    coherent: "How clear is {answer} to {question}?"
- <<: *first
  id: first_json
  system: Be brief
"""


def commands() -> list[str]:
    """The commands of the page's shell blocks, one line each."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip()]


def scaled_down(command: str, judge: str) -> str:
    for words, others in SCALED_DOWN.items():
        command = command.replace(words, others.format(judge=judge))
    return command


def judged(request: Request) -> Act:
    """A judge's reply that finds all answers clear and some of them bad."""
    prompt = request["messages"][0]["content"]
    number = "10" if "good" in prompt and zlib.crc32(prompt.encode()) % 2 else "95"
    return completion(number, {number: 0.9})


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    repositories = recipe_repositories()
    for name in ("gemma-2-2b", "qwen2.5-7b-instruct"):
        entry = CATALOGUE[name]
        release, _, sae = entry.sae[entry.default_block].partition("/")
        listed = get_pretrained_saes_directory()[release]
        path = listed.saes_map[sae]
        repositories[listed.repo_id] = (
            gemma_scope(path)
            if name.startswith("gemma")
            else gpt_oss_sae(path, entry.default_block, entry.model)
        )
    with LoopbackHub(repositories, gated=GATED) as server:
        yield server


def conditions(report: str) -> list[str]:
    """The first column of the report's first table."""
    lines = report[report.index("| condition") :].splitlines()
    rows = [line.split(" | ")[0].removeprefix("| ") for line in takewhile(bool, lines)]
    return rows[2:]


@pytest.mark.timeout(540)  # where the machine has much else to do
def test_every_command_of_the_recipe_runs_in_its_order(hub: LoopbackHub, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "first_plot_questions.yaml").write_text(QUESTIONS)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    variables = hub.environment(tmp_path / "home", TOKEN)
    geofilter = WarmProcess(folder, variables, pairs_of_a_domain=2, narrow_gemma_scope=True)
    run = []
    with Server(judged).running() as judge:
        for command in commands():
            if any(command.startswith(words) for words in NOT_EXECUTED):
                continue
            program, *words = scaled_down(command, judge).split()
            if program == "python":
                done = type_command(" ".join(words[1:]), folder, variables, words[:1])
            else:
                assert program == "geofilter", command
                done = geofilter(" ".join(words))
            # A verification with random weights says no.
            allowed = (0, 1) if words[0] == "verify" else (0,)
            assert done.code in allowed, f"{command}\n{done.err}"
            said = done.err.splitlines()
            assert [line for line in said if not line.startswith("geofilter: ")] == []
            run.append(words[0])
    geofilter.close()
    assert run.count("verify") == 4
    assert run.count("score") == 2

    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [len(rows), sum(row["harmful"] for row in rows)] == [16, 8]
    assert len((folder / "kept.jsonl").read_text().splitlines()) == 8
    masked = [json.loads(line) for line in (folder / "masked.jsonl").read_text().splitlines()]
    assert [row["messages"] for row in masked] == [row["messages"] for row in rows]
    assert masked != rows
    wholly = {"gemma": ["aligned", "unfiltered", "benign-control"], "qwen": ["unfiltered"]}
    by_score = {
        "gemma": ("random", "nearest", "spillover", "persona", "oracle"),
        "qwen": (
            *("random", "persona", "projection-difference", "influence"),
            *("inoculate", "replace", "oracle"),
        ),
    }
    for name in ("gemma", "qwen"):
        report = (folder / name / "report.md").read_text()
        assert conditions(report) == [*wholly[name], *(f"{arm}-0.5" for arm in by_score[name])]
        assert "## Preference for harmful answers, without a judge" in report
        record = json.loads((folder / name / "report.json").read_text())
        for condition in record["conditions"]:
            assert condition["main"]["counts"]["answers"] == 2
            assert condition["main"]["counts"]["unsettled"] == 0
        assert (record["conditions"][0]["held_out_loss"] is None) == (name == "qwen")
    kept = json.loads((folder / "gemma/arms/oracle-0.5/seed-0/training.json").read_text())
    assert not any(rows[place]["harmful"] for place in kept["rows"])


def between(name: str) -> str:
    start, end = f"<!-- {name} -->\n", "\n<!-- end -->"
    return PAGE.split(start)[1].split(end)[0]


def test_the_costs_of_the_page_are_those_that_its_program_works_out() -> None:
    spec = importlib.util.spec_from_file_location("cost", RECIPE / "cost.py")
    assert spec is not None
    assert spec.loader is not None
    cost = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cost)
    assert between("cost") == cost.table()
    # The program's assumptions are the page's commands.
    whole = next(command for command in commands() if "--arms aligned" in command)
    assert whole.split("--arms ")[1].split()[0].count(",") + 1 == cost.ARMS
    assert f"--seeds {cost.SEEDS} " in whole
    assert f"--ask-batch {cost.ASK_BATCH} " in whole
    assert f"--rows {cost.ROWS} " in " ".join(commands())
    assert f"{cost.ARMS * cost.SEEDS * cost.QUESTIONS * cost.SAMPLES:,} answers" in PAGE


def test_the_power_line_of_the_page_is_the_one_that_is_printed() -> None:
    quoted = " ".join(line[2:] for line in PAGE.splitlines() if line.startswith("> "))
    assert quoted == power_line(
        Plan("rows", Settings("model"), "model", "questions", "judge"), 2400
    )


def test_the_answers_needed_on_the_page_are_those_of_the_formula() -> None:
    lines = between("power").splitlines()[2:]
    assert len(lines) > 3
    for line in lines:
        rate, *cells = line.strip("| ").split(" | ")
        share = float(rate.removesuffix(" %")) / 100
        found = [f"{answers_needed(share, fall):,}" for fall in (0.345, 0.5, 0.75)]
        for answers in (2400, 7200):
            least = smallest_reduction(share, answers)
            found.append("no fall" if least is None else f"{least:.0%}")
        assert cells == found, rate
