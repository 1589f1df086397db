"""Speed at the true sizes of gemma-2-2b and gemma-2-9b, on a GPU, with random weights.

    python benchmarks/speed.py --device cuda

Only the blocks up to the SAE's are made, half of the depth, in bfloat16 and on the
device itself; nothing is downloaded. Each model runs with SAEs of 16,384 and 131,072
latents over 2,048 generated rows: geofilter, from the file to the finished table, and
the limit, which is the network's calls of that run alone. Both are counted as in
`speed.py`; memory is the most that the device held during each.
"""

import argparse
import copy
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch

import random_parts
from geofilter.data.encoder import Encoder
from geofilter.model.loading import LoadedModel
from speed_peers import Geofilter, Limit
from timing import (
    forget_peak,
    forward_flop,
    interleaved,
    machine,
    markdown,
    matmul_ceiling,
    peak_memory_mib,
    seconds,
    spread,
)

SEED = 0
TARGET = 0.85
# Tokens of a row that are looked at, as by default.
WINDOW = 2048


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both models with both SAEs; what was seen of each."""
    device = torch.device(options.device)
    sizes = [size for size in random_parts.GEMMAS if options.model in (None, size.name)]
    if not sizes:
        known = ", ".join(size.name for size in random_parts.GEMMAS)
        raise SystemExit(f"no size is called {options.model!r}; known: {known}")
    if options.tiny:
        sizes = [random_parts.tiny(size) for size in sizes]
    data = folder / "rows.jsonl"
    random_parts.write_rows(data, options.rows, seed=SEED)
    tokenizer = random_parts.bpe_tokenizer(data, min(size.config.vocab_size for size in sizes))
    encoder = Encoder(tokenizer, max_length=WINDOW)
    samples = random_parts.encode_rows(data, encoder)
    lengths = [len(sample.ids) for sample in samples]
    facts: dict[str, Any] = {
        "machine": machine(device),
        "seed": SEED,
        "rows": {"source": "generated", "rows": len(lengths), "tokens": sum(lengths)},
        "target": TARGET,
        "runs": [],
    }
    ceilings = [matmul_ceiling(device, torch.bfloat16, options.matmul)]
    for size in sizes:
        network = truncated(size, device)
        for latents in size.latents:
            print(f"{size.name}, {latents:,} latents", file=sys.stderr)
            model = with_sae(size, network, tokenizer, latents, device)
            random_parts.calibrate(model, samples[::-1])
            pack = random_parts.random_pack(model, encoder, folder)
            geofilter = Geofilter(model, pack, data, encoder)
            facts["runs"].append(
                {
                    "model": size.name,
                    "latents": latents,
                    "block": model.block,
                    "blocks": size.blocks,
                    "firing_per_token": round(random_parts.firing(model, samples[:8]), 1),
                    **compare(geofilter, lengths, options.rounds),
                }
            )
            del model, geofilter
        del network
        forget_peak(device)
    ceilings.append(matmul_ceiling(device, torch.bfloat16, options.matmul))
    facts["matmul_tflops"] = spread((value / 1e12 for value in ceilings), 2)
    for run in facts["runs"]:
        for name in ("geofilter", "limit"):
            run[name]["share_of_matmul"] = round(run[name]["tflops"] / max(ceilings) * 1e12, 4)
    return facts


def truncated(size: random_parts.Size, device: torch.device) -> Any:
    """A random network of the first half of the blocks, without a head, on the device."""
    from transformers import AutoModel

    config = copy.deepcopy(size.config)
    config.num_hidden_layers = size.blocks // 2
    config.layer_types = config.layer_types[: size.blocks // 2]
    torch.manual_seed(SEED)
    with device:
        network = AutoModel.from_config(config, dtype=torch.bfloat16)
    return network.eval().requires_grad_(False)


def with_sae(
    size: random_parts.Size, network: Any, tokenizer: Any, latents: int, device: torch.device
) -> LoadedModel:
    """The network as geofilter holds a loaded one, with an SAE after its last block."""
    block = size.blocks // 2 - 1
    return LoadedModel(
        name=size.name,
        tokenizer=tokenizer,
        network=network,
        sae=random_parts.random_sae(size.config.hidden_size, latents, block, device, seed=SEED),
        sae_name=f"random-{latents}",
        block=block,
        max_context=WINDOW,
        device=device,
    )


def compare(geofilter: Geofilter, lengths: list[int], rounds: int) -> dict[str, Any]:
    """geofilter and the limit in turns: tokens per second, FLOP per second, memory."""
    device = geofilter.model.device
    limit = Limit(geofilter)  # runs geofilter once: its warm-up
    work = {"geofilter": geofilter, "limit": limit}
    times = interleaved(work, rounds, device)
    flop = forward_flop(geofilter.model.network, geofilter.model.block + 1, lengths)
    found: dict[str, Any] = {"network_calls": len(limit.calls)}
    for name, spent in times.items():
        forget_peak(device)
        seconds(work[name], device)
        found[name] = {
            "seconds": [round(value, 3) for value in spent],
            "tokens_per_s": spread((sum(lengths) / value for value in spent), 1),
            "tflops": round(flop / median(spent) / 1e12, 4),
            "peak_mib": peak_memory_mib(device),
        }
    shares = (bare / full for bare, full in zip(times["limit"], times["geofilter"], strict=True))
    found["share_of_limit"] = spread(shares)
    return found


def table(facts: dict[str, Any]) -> str:
    """What is printed: a line per model and SAE."""
    header = ["model", "latents", "tokens/s", "limit", "share of it", "TFLOP/s", "of matmul", "MiB"]
    rows: list[list[object]] = [
        [
            run["model"],
            f"{run['latents']:,}",
            f"{run['geofilter']['tokens_per_s']['median']:,.0f}",
            f"{run['limit']['tokens_per_s']['median']:,.0f}",
            f"{run['share_of_limit']['median']}, wanted {facts['target']}",
            run["geofilter"]["tflops"],
            f"{run['geofilter']['share_of_matmul']:.0%}",
            run["geofilter"]["peak_mib"],
        ]
        for run in facts["runs"]
    ]
    return markdown(header, rows)
