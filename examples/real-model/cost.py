"""What the recipe takes, worked out from stated assumptions. Nothing here was measured.

    python cost.py

prints the table of the recipe. Change the numbers below to yours.
"""

import math
from dataclasses import dataclass

# One H100 SXM: dense bfloat16 FLOP/s and bytes/s by its data sheet; the price of a cloud.
PEAK, BANDWIDTH, EUROS_PER_HOUR = 989e12, 3.35e12, 2.5
# What is reached of them: guesses on the careful side, for short rows in small batches.
SHARE_OF_PEAK, SHARE_OF_BANDWIDTH = 0.2, 0.5
# Seconds that starting the kernels of one block takes, forward, in plain transformers.
LAUNCH = 1.2e-3

ROWS, TOKENS_PER_ROW = 6_000, 250
QUESTIONS, SAMPLES, LONGEST_ANSWER, ASK_BATCH = 24, 100, 600, 128
ARMS, SEEDS, MICRO_BATCH = 8, 3, 2
# Two prompts per answer, each with question, answer and what is asked of the judge.
JUDGE_PARAMETERS, JUDGE_TOKENS = 32.8e9, 700


@dataclass(frozen=True)
class Model:
    """Parameters in all, of the embedding, and of the SAE; blocks in all and up to the SAE."""

    parameters: float
    embedding: float
    sae: float
    blocks: int
    scored_blocks: int


MODELS = {
    "gemma-2-2b": Model(2.61e9, 0.59e9, 2 * 2304 * 16_384, 26, 8),
    "Qwen2.5-7B-Instruct": Model(7.62e9, 0.54e9, 2 * 3584 * 131_072, 28, 12),
}


def score_seconds(model: Model) -> float:
    """A product and a sum per parameter and token, of the blocks up to the SAE and of the SAE."""
    blocks = (model.parameters - model.embedding) * model.scored_blocks / model.blocks
    return 2 * (blocks + model.sae) * ROWS * TOKENS_PER_ROW / (PEAK * SHARE_OF_PEAK)


def train_seconds(model: Model) -> float:
    """Forward, forward again (checkpointing), backward; or the kernels' starts, if those last."""
    computed = 6 * model.parameters * ROWS * TOKENS_PER_ROW / (PEAK * SHARE_OF_PEAK)
    return max(computed, ROWS / MICRO_BATCH * model.blocks * LAUNCH * 4)


def ask_seconds(model: Model) -> float:
    """Each batch goes on until its longest answer ends: all weights read for every token."""
    token = max(2 * model.parameters / (BANDWIDTH * SHARE_OF_BANDWIDTH), model.blocks * LAUNCH)
    return math.ceil(QUESTIONS * SAMPLES / ASK_BATCH) * LONGEST_ANSWER * token


def judge_seconds() -> float:
    """The prompts of all answers, read by the judge; its reply is a token or a few."""
    tokens = QUESTIONS * SAMPLES * 2 * JUDGE_TOKENS
    return 2 * JUDGE_PARAMETERS * tokens / (PEAK * SHARE_OF_PEAK)


def table() -> str:
    """The table of the recipe, in Markdown."""
    lines = [
        ["estimated, not measured", "how", *MODELS],
        ["---"] * (2 + len(MODELS)),
        ["score the rows", "2 · (blocks + SAE) · tokens / speed"]
        + [f"{score_seconds(m):.0f} s" for m in MODELS.values()],
        ["train one arm", "6 · parameters · tokens / speed, or starting kernels"]
        + [f"{train_seconds(m) / 60:.0f} min" for m in MODELS.values()],
        ["ask it", "batches · longest answer · time per token"]
        + [f"{ask_seconds(m) / 60:.0f} min" for m in MODELS.values()],
        ["judge its answers", "2 · judge's parameters · tokens / speed"]
        + [f"{judge_seconds() / 60:.0f} min" for _ in MODELS],
    ]
    cells = [(train_seconds(m) + ask_seconds(m) + judge_seconds()) / 3600 for m in MODELS.values()]
    lines += [
        ["**the pilot**", "1 run", *(f"{c:.1f} h, {c * EUROS_PER_HOUR:.0f} €" for c in cells)],
        ["**all arms**", f"{ARMS} arms · {SEEDS} seeds"]
        + [f"{ARMS * SEEDS * c:.0f} h, {ARMS * SEEDS * c * EUROS_PER_HOUR:.0f} €" for c in cells],
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    print(table())
