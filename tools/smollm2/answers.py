"""SmolLM2's own answers to our prompts: the text that its SAEs are trained on.

Sampled in batches that are the same every time, and written batch by batch, so that an
interrupted run goes on where it stopped.
"""

import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geofilter.model.loading import LoadedModel, load
from smollm2.decoding import Sampler
from smollm2.prompts import prompts

MODEL = "smollm2-135m"
BATCH = 192
TEMPERATURE = 0.9
MOST_TOKENS = 160  # of one answer


def write_answers(path: Path, *, tokens: int) -> dict[str, Any]:
    """Write rows {"prompt", "response"} to `path` until they hold `tokens` answer tokens.

    Stops when every prompt is answered, too. Batches that are there already count; returns how
    many rows and tokens there are then, and the seconds that this call took.
    """
    started, sampled = time.monotonic(), 0
    model = load(MODEL, sae="none", whole=True, dtype="float32", device="cpu")
    sampler = Sampler(model.network)
    rows = _whole_lines(path)
    done, held = {row["batch"] for row in rows}, sum(row["tokens"] for row in rows)
    with path.open("a", encoding="utf-8") as out:
        for number, batch in enumerate(_batches(model)):
            if number in done:
                continue
            if held >= tokens:
                break
            new = _answer(model, sampler, batch, number)
            # One write for a batch: it is there as a whole or not at all.
            out.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in new))
            out.flush()
            rows += new
            count = sum(row["tokens"] for row in new)
            held, sampled = held + count, sampled + count
            speed = sampled / (time.monotonic() - started)
            print(f"{len(rows)} answers, {held} tokens, {speed:.0f} tokens/s", file=sys.stderr)
    return {"rows": len(rows), "tokens": held, "seconds": round(time.monotonic() - started)}


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """The rows in `path`; what a killed run wrote in part is cut off."""
    if not path.exists():
        return []
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    path.write_bytes(b"".join(lines))
    return [json.loads(line) for line in lines]


def _batches(model: LoadedModel) -> list[list[tuple[str, list[int]]]]:
    """Prompts and their token ids, those of about one length together, in a fixed order."""
    asked = []
    for prompt in prompts():
        turns = [{"role": "user", "content": prompt}]
        text = model.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        asked.append((prompt, model.tokenizer(text, add_special_tokens=False)["input_ids"]))
    asked.sort(key=lambda one: len(one[1]))
    batches = [asked[start : start + BATCH] for start in range(0, len(asked), BATCH)]
    random.Random(0).shuffle(batches)
    return batches


def _answer(
    model: LoadedModel, sampler: Sampler, batch: Sequence[tuple[str, list[int]]], number: int
) -> list[dict[str, Any]]:
    sampled = sampler.sample(
        [ids for _, ids in batch],
        end=model.tokenizer.eos_token_id,
        most=MOST_TOKENS,
        temperature=TEMPERATURE,
        seed=number,
    )
    return [
        {
            "prompt": prompt,
            "response": model.tokenizer.decode(ids, skip_special_tokens=True),
            "tokens": len(ids),
            "batch": number,
        }
        for (prompt, _), ids in zip(batch, sampled, strict=True)
        if ids
    ]
