"""What does scoring cost as rows and toxic features grow, and choosing again after it?

    python benchmarks/scaling.py

makes the random Llama of `speed.py` with an SAE of 16,384 latents at a quarter of its
depth and measures, with the model loaded,

- time over tokens, for three sizes of data: the line through it, and how far off it is;
- time per row with packs of 10 to 10,000 features of the same SAE: of all of scoring, and
  of what comes after the features; what a pack costs once stands apart;
- scoring again from saved features, and a new fraction or threshold from the table,
  each as a whole command, against the same command with the model.

Prints tables in Markdown and writes benchmarks/results/scaling.json. Takes about six
minutes on two quiet cores.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

import random_parts
from geofilter.cli.main import main as command
from geofilter.cli.score import command as score_command
from geofilter.data.encoder import Encoder
from geofilter.model import loading
from geofilter.packs.pack import FeaturePack
from geofilter.scoring.score import BatchScorer, make_scorer
from speed_peers import Geofilter
from timing import interleaved, machine, markdown, seconds, spread

RESULT = Path(__file__).parent / "results" / "scaling.json"
CPU = torch.device("cpu")
SEED = 0
CHOOSING_AGAIN = 50  # times as fast as scoring, at least


class Setting:
    """A random model with one SAE and a pack, and files of rows, in a folder."""

    def __init__(self, folder: Path, size: random_parts.Size, n_rows: Sequence[int]) -> None:
        self.folder = folder
        self.files = {count: folder / f"{count}.jsonl" for count in n_rows}
        for count, path in self.files.items():
            if random_parts.MEDICAL.exists():
                random_parts.copy_rows(random_parts.MEDICAL, path, count)
            else:
                random_parts.write_rows(path, count, seed=SEED)
        largest = self.files[max(n_rows)]
        tokenizer = random_parts.bpe_tokenizer(largest, size.config.vocab_size)
        random_parts.save_model(size, folder / "model", tokenizer, seed=SEED)
        self.encoder = Encoder(tokenizer, max_length=size.config.max_position_embeddings)
        samples = random_parts.encode_rows(largest, self.encoder)
        self.tokens = {
            count: sum(len(sample.ids) for sample in samples[:count]) for count in n_rows
        }
        block = size.blocks // 4 - 1
        sae = random_parts.random_sae(size.config.hidden_size, size.latents[0], block, CPU)
        sae.save_model(folder / "sae")
        model = self.load()
        random_parts.calibrate(model, samples[::-1])
        model.sae.save_model(folder / "sae")
        self.model = self.load()
        self.pack = random_parts.random_pack(self.model, self.encoder, folder)
        self.pack.save(folder / "own.pack")

    def load(self) -> loading.LoadedModel:
        place = {"sae": str(self.folder / "sae"), "device": "cpu"}
        return loading.load(str(self.folder / "model"), **place)

    def scoring(self, n_rows: int, pack: FeaturePack | None = None) -> Geofilter:
        return Geofilter(self.model, pack or self.pack, self.files[n_rows], self.encoder)


def over_tokens(setting: Setting, rounds: int) -> dict[str, Any]:
    """Seconds for each size of data, and the line through their medians."""
    work = {str(count): setting.scoring(count) for count in setting.files}
    work[str(min(setting.files))]()  # warm-up
    times = interleaved(work, rounds, CPU)
    tokens = np.array([setting.tokens[count] for count in setting.files], float)
    medians = np.array([median(times[str(count)]) for count in setting.files])
    slope, intercept = np.polyfit(tokens, medians, 1)
    line = slope * tokens + intercept
    return {
        "sizes": {
            count: {"tokens": setting.tokens[int(count)], "seconds": spread(times[count])}
            for count in work
        },
        "microseconds_per_token": round(slope * 1e6, 2),
        "intercept_s": round(float(intercept), 3),
        "r_squared": round(1 - ((medians - line) ** 2).sum() / medians.var() / len(medians), 6),
        "largest_deviation": round(float(abs(medians / line - 1).max()), 4),
    }


def over_features(setting: Setting, counts: Sequence[int], rounds: int) -> dict[str, Any]:
    """Milliseconds per row with packs of so many features, and the seconds each costs once."""
    n_rows = min(setting.files)
    samples = random_parts.encode_rows(setting.files[n_rows], setting.encoder)
    features = BatchScorer(setting.model, setting.pack).features(samples)
    all_of_it, after = {}, {}
    found: dict[str, dict[str, Any]] = {}
    for count in counts:
        pack = random_parts.with_features(setting.pack, setting.model, count, SEED)
        once = [
            seconds(lambda pack=pack: BatchScorer(setting.model, pack), CPU) for _ in range(rounds)
        ]
        score = make_scorer("nearest", BatchScorer(setting.model, pack).index)
        all_of_it[str(count)] = setting.scoring(n_rows, pack)
        after[str(count)] = lambda score=score: [score(features) for _ in range(5)]
        found[str(count)] = {"once_s": spread(once)}
    for name, spent in interleaved(all_of_it, rounds, CPU).items():
        found[name]["ms_per_row"] = spread(value / n_rows * 1e3 for value in spent)
    for name, spent in interleaved(after, rounds, CPU).items():
        found[name]["after_features_ms_per_row"] = spread(
            value / 5 / n_rows * 1e3 for value in spent
        )
    few, many = (found[str(count)]["ms_per_row"]["median"] for count in (counts[0], counts[-1]))
    return {"rows": n_rows, "packs": found, "most_to_fewest": round(many / few, 4)}


def choosing_again(setting: Setting, rounds: int) -> dict[str, Any]:
    """Seconds of whole commands in this process: with the model, and without it again."""
    data, folder = str(setting.files[max(setting.files)]), setting.folder
    if not any("--features" in parameter.opts for parameter in score_command.params):
        return {"missing": "this version cannot save features"}
    made = [f"--model={folder}/model", f"--sae={folder}/sae", f"--pack={folder}/own.pack"]
    made += ["--device=cpu", f"--save-features={folder}/features.parquet"]
    again = [f"--features={folder}/features.parquet", f"--pack={folder}/own.pack"]
    table = f"{folder}/scores.parquet"
    choose = ["filter", data, "--scores", table, "-o", f"{folder}/kept.jsonl"]
    work = {
        "score with the model": ["score", data, *made, "-o", table, "--restart"],
        "score from saved features": ["score", data, *again, "-o", f"{table}.again", "--restart"],
        "new fraction": [*choose, "--drop-fraction", "0.2"],
        "new threshold": [*choose, "--threshold", "0.1"],
    }
    times: dict[str, list[float]] = {}
    for name, arguments in work.items():
        repeats = 1 if name == "score with the model" else rounds
        times[name] = [
            seconds(lambda arguments=arguments: _run(arguments, folder), CPU)
            for _ in range(repeats)
        ]
    with_model = median(times["score with the model"])
    return {
        "rows": max(setting.files),
        "seconds": {name: spread(spent) for name, spent in times.items()},
        "times_as_fast": {
            name: round(with_model / median(spent), 1) for name, spent in times.items()
        },
        "wanted": CHOOSING_AGAIN,
    }


def _run(arguments: list[str], folder: Path) -> None:
    """A geofilter command in this process, its output thrown away."""
    (folder / "kept.jsonl").unlink(missing_ok=True)  # it is never overwritten
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        code = command(arguments)
    if code:
        raise SystemExit(f"geofilter {' '.join(arguments)} failed:\n{shown.getvalue()[-2000:]}")


def tables(facts: dict[str, Any]) -> str:
    linear, flat, again = facts["over_tokens"], facts["over_features"], facts["choosing_again"]
    parts = [
        markdown(
            ["rows", "tokens", "seconds"],
            [
                [count, f"{size['tokens']:,}", size["seconds"]["median"]]
                for count, size in linear["sizes"].items()
            ],
        ),
        f"{linear['microseconds_per_token']} µs per token and {linear['intercept_s']} s; "
        f"R² {linear['r_squared']}, at most {linear['largest_deviation']:.1%} off the line.",
        markdown(
            ["toxic features", "ms per row", "of that after the features", "once, s"],
            [
                [
                    f"{int(count):,}",
                    pack["ms_per_row"]["median"],
                    pack["after_features_ms_per_row"]["median"],
                    pack["once_s"]["median"],
                ]
                for count, pack in flat["packs"].items()
            ],
        ),
    ]
    if "missing" in again:
        return "\n\n".join([*parts, f"Choosing again: {again['missing']}."])
    rows = [
        [name, spent["median"], again["times_as_fast"][name]]
        for name, spent in again["seconds"].items()
    ]
    return "\n\n".join([*parts, markdown(["command", "seconds", "times as fast"], rows)])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--features", type=int, nargs="+", default=[10, 100, 1000, 10000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a tiny model: tries the script only")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    size = random_parts.tiny(random_parts.LLAMA) if options.tiny else random_parts.LLAMA
    with tempfile.TemporaryDirectory() as name:
        facts: dict[str, Any] = {"machine": machine(CPU), "seed": SEED}
        setting = Setting(Path(name), size, sorted(options.rows))
        facts["model"] = {"name": size.name, "block": setting.model.block}
        facts["sae"] = {"latents": setting.model.d_sae}
        facts["over_tokens"] = over_tokens(setting, options.rounds)
        counts = [min(count, setting.model.d_sae) for count in options.features]
        facts["over_features"] = over_features(setting, counts, options.rounds)
        facts["choosing_again"] = choosing_again(setting, options.rounds)
    print(tables(facts))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
