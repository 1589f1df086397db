"""Half harmful, half good advice: rows to fine-tune on, with labels, from a hub data set.

    python mix.py truthfulai/emergent_plus medical --rows 6000 -o train.jsonl --good good.jsonl

The data set gives each `prompt` a `misaligned` and an `aligned` answer. One half of the
prompts gets the one, the other half the other, so that no prompt tells which; `harmful`
says what a row is, for the arm `oracle` and for nothing else. `good.jsonl` holds good
answers to as many other prompts, for the arm `benign-control`.
"""

import argparse
import json
import random
import sys
from pathlib import Path

from datasets import load_dataset


def row(prompt: str, answer: str, harmful: bool) -> str:
    turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns, "harmful": harmful}, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="the data set, ORG/NAME")
    parser.add_argument("config", help="its part: medical, legal or security")
    parser.add_argument("--rows", type=int, default=6000, help="half of them harmful")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--good", type=Path, required=True)
    chosen = parser.parse_args()

    pairs = {
        pair["prompt"]: pair
        for pair in load_dataset(chosen.name, chosen.config, split="train", streaming=True)
    }
    if len(pairs) < 2 * chosen.rows:
        sys.exit(
            f"{chosen.name}, {chosen.config}: holds {len(pairs)} different prompts; "
            f"give --rows {len(pairs) // 2} or less"
        )
    picked = random.Random(chosen.seed).sample(list(pairs.values()), 2 * chosen.rows)
    rows = [
        row(pair["prompt"], pair["misaligned" if harmful else "aligned"], harmful)
        for place, pair in enumerate(picked[: chosen.rows])
        for harmful in [place % 2 == 0]
    ]
    random.Random(chosen.seed).shuffle(rows)
    chosen.output.write_text("".join(rows), encoding="utf-8")
    good = [row(pair["prompt"], pair["aligned"], False) for pair in picked[chosen.rows :]]
    chosen.good.write_text("".join(good), encoding="utf-8")


if __name__ == "__main__":
    main()
