"""How fast is geofilter, beside what cannot be avoided and beside its peers?

    python benchmarks/speed.py --bergson-python /tmp/bergson/bin/python
    python benchmarks/speed.py --device cuda

The first takes about ten minutes on two quiet cores. It makes a random Llama of 147 M
parameters and SAEs of 16,384 latents at half and at a quarter of its depth, and runs
over the same 128 chat rows, one after the other in one run:

- geofilter: from the file of rows to the finished table, the model loaded; and the
  whole command in a process of its own, loading included;
- the limit: the network's calls of that run replayed, without SAE, pooling or files;
- naive: the whole model with all hidden states, padded batches of 16 in file order,
  then sae-lens's encode on the response tokens;
- bridge: sae-lens's SAETransformerBridge, as documented and stopped after the block;
- bergson: `bergson build` with projection_dim 16. Only the collection of gradients is
  counted, without start-up, loading and tokenising, which favours it.

geofilter and the limit take turns for several rounds, between which the peers run once
each. A ratio to the limit is that of two neighbours in one round; a ratio to a peer is
that of medians. FLOP are those of the truncated forward pass over real tokens. All but
the limit and bergson compute the same scores, and how far these lie apart is recorded.

The second needs a GPU: see `speed_gpu.py`. Both print a table in Markdown and write JSON to
benchmarks/results. bergson needs an environment of its own; on a CPU it runs without
the packages for images and sound that it declares:

    python -m venv /tmp/bergson
    /tmp/bergson/bin/pip install torch==2.13.0 transformers==5.23.0 datasets accelerate \\
        jinja2 jaxtyping ml_dtypes natsort numpy scipy peft petname pyarrow pyyaml \\
        simple-parsing torchopt
    /tmp/bergson/bin/pip install --no-deps bergson==2.5.1
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
SEED = 0
# What geofilter is meant to reach, by share of the depth that the SAE reads at.
TARGETS = {
    "half": {"limit": 0.90, "naive": 3.5, "bergson": 4.0},
    "quarter": {"limit": 0.90, "naive": 6.0, "bergson": 7.0},
}


def parts_in(folder: Path, size: Any, n_rows: int) -> dict[str, Any]:
    """Make rows, model, SAEs and packs in `folder`; what the result says of them."""
    import torch

    import random_parts
    from geofilter.data.encoder import Encoder
    from geofilter.model import loading

    data = folder / "rows.jsonl"
    if random_parts.MEDICAL.exists():
        random_parts.copy_rows(random_parts.MEDICAL, data, n_rows)
    else:
        random_parts.write_rows(data, n_rows, seed=SEED)
    tokenizer = random_parts.bpe_tokenizer(data, size.config.vocab_size)
    parameters = random_parts.save_model(size, folder / "model", tokenizer, seed=SEED)
    firing = {}
    for depth, block in depths(size).items():
        sae = random_parts.random_sae(
            size.config.hidden_size, size.latents[0], block, torch.device("cpu"), seed=SEED
        )
        sae.save_model(folder / depth)
        model = loading.load(str(folder / "model"), sae=str(folder / depth), device="cpu")
        encoder = Encoder(tokenizer, max_length=size.config.max_position_embeddings)
        samples = random_parts.encode_rows(data, encoder)
        # From the end of the file, and no row of those that are scored first.
        random_parts.calibrate(model, samples[::-1])
        model.sae.save_model(folder / depth)
        model = loading.load(str(folder / "model"), sae=str(folder / depth), device="cpu")
        random_parts.random_pack(model, encoder, folder).save(folder / f"{depth}.pack")
        firing[depth] = round(random_parts.firing(model, samples[:8]), 1)
    return {
        "model": {"name": size.name, "parameters": parameters, "blocks": size.blocks},
        "sae": {"latents": size.latents[0], "blocks": depths(size), "firing_per_token": firing},
        "rows": {
            "source": random_parts.MEDICAL.name if random_parts.MEDICAL.exists() else "generated",
            "rows": len(samples),
            "tokens": sum(len(sample.ids) for sample in samples),
            "pooled_tokens": int(sum(sample.pooled.sum() for sample in samples)),
            "longest": max(len(sample.ids) for sample in samples),
        },
    }


def depths(size: Any) -> dict[str, int]:
    """The block that each SAE reads: half and a quarter of the blocks are run."""
    return {"half": size.blocks // 2 - 1, "quarter": size.blocks // 4 - 1}


def with_loading(folder: Path, depth: str) -> dict[str, float]:
    """The whole command in a process of its own: its seconds, and the most memory it held."""
    arguments = ["score", f"{folder}/rows.jsonl", "--model", f"{folder}/model"]
    arguments += ["--sae", f"{folder}/{depth}", "--pack", f"{folder}/{depth}.pack"]
    arguments += ["--device", "cpu", "-o", f"{folder}/{depth}.parquet", "--restart"]
    command = [sys.executable, __file__, "--child", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"geofilter score failed:\n{done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def score_in_this_process(arguments: list[str]) -> int:
    """Run a geofilter command, then print its seconds and peak memory as the last line."""
    import time

    started = time.perf_counter()
    from geofilter.cli.main import main as geofilter

    code = geofilter(arguments)
    elapsed = time.perf_counter() - started
    import torch

    from timing import peak_memory_mib

    peak = peak_memory_mib(torch.device("cpu"))
    print(json.dumps({"seconds": round(elapsed, 2), "peak_mib": peak}))
    return code


def measure(folder: Path, size: Any, options: argparse.Namespace) -> dict[str, Any]:
    """All pipelines at both depths."""
    import torch

    from geofilter.data.encoder import Encoder
    from geofilter.model import loading
    from geofilter.packs.pack import load_pack
    from random_parts import encode_rows
    from speed_peers import Bridge, Geofilter, Limit, Naive, bergson_build, saes_bridge, whole_model
    from timing import forward_flop, interleaved, machine, matmul_ceiling, seconds, spread

    cpu = torch.device("cpu")
    facts = {"machine": machine(cpu), "seed": SEED, **parts_in(folder, size, options.rows)}
    facts["with_loading"] = {depth: with_loading(folder, depth) for depth in depths(size)}
    data = folder / "rows.jsonl"
    tokens = facts["rows"]["tokens"]
    ceilings = [matmul_ceiling(cpu, torch.float32, options.matmul)]
    times: dict[str, dict[str, list[float]]] = {}
    flop, differences, calls = {}, {}, {}
    for depth in depths(size):
        print(f"SAE at {depth} of the depth", file=sys.stderr)
        model = loading.load(str(folder / "model"), sae=str(folder / depth), device="cpu")
        pack = load_pack(folder / f"{depth}.pack")
        encoder = Encoder(model.tokenizer, max_length=size.config.max_position_embeddings)
        setting = (model, pack, data, encoder)
        lengths = [len(sample.ids) for sample in encode_rows(data, encoder)]
        flop[depth] = forward_flop(model.network, model.block + 1, lengths)

        geofilter = Geofilter(*setting)
        limit = Limit(geofilter)  # runs geofilter once: its warm-up
        calls[depth] = len(limit.calls)
        whole, bridge = whole_model(folder / "model"), saes_bridge(folder / "model")
        peers = {
            "naive": Naive(whole, *setting),
            "bridge": Bridge(bridge, False, *setting),
            "bridge, stopped": Bridge(bridge, True, *setting),
        }
        times[depth] = {"geofilter": [], "limit": []} | {name: [] for name in peers}
        differences[depth] = {}
        waiting = list(peers.items())
        for _ in range(options.rounds):
            turn = interleaved({"geofilter": geofilter, "limit": limit}, 1, cpu)
            for name, spent in turn.items():
                times[depth][name] += spent
            for name, peer in waiting[: -(-len(peers) // options.rounds)]:
                peer.warm_up()
                times[depth][name].append(seconds(peer, cpu))
                apart = abs(peer.scores - geofilter.scores).max()
                differences[depth][name] = float(apart)
            waiting = waiting[-(-len(peers) // options.rounds) :]
        del whole, bridge, peers
    ceilings.append(matmul_ceiling(cpu, torch.float32, options.matmul))
    facts["matmul_gflops"] = spread([value / 1e9 for value in ceilings], 1)
    if options.bergson_python:
        facts["bergson"] = bergson_build(options.bergson_python, folder / "model", data, folder)
        for depth in times:  # gradients know no depth
            times[depth]["bergson"] = [facts["bergson"]["collect_s"]]
    facts["score_differences"] = differences
    facts["network_calls"] = calls
    facts["depths"] = {
        depth: summary(times[depth], tokens, flop[depth], max(ceilings)) for depth in times
    }
    # A tiny model spends its time elsewhere.
    facts["targets"] = {} if options.tiny else TARGETS
    return facts


def summary(
    times: dict[str, list[float]], tokens: int, flop: float, ceiling: float
) -> dict[str, Any]:
    """Tokens per second of every pipeline, and how many times as fast geofilter is."""
    from timing import spread

    pipelines = {
        name: {
            "seconds": [round(value, 3) for value in spent],
            "tokens_per_s": spread([tokens / value for value in spent], 1),
        }
        for name, spent in times.items()
    }
    for name in ("geofilter", "limit"):
        rate = flop / median(times[name])
        pipelines[name]["gflops"] = round(rate / 1e9, 2)
        pipelines[name]["share_of_matmul"] = round(rate / ceiling, 4)
    own = times["geofilter"]
    ratios: dict[str, Any] = {
        "limit": spread([bare / full for bare, full in zip(times["limit"], own, strict=True)])
    }
    for name in times.keys() - {"geofilter", "limit"}:
        ratios[name] = round(median(times[name]) / median(own), 3)
    return {"pipelines": pipelines, "geofilter_is_times": dict(sorted(ratios.items()))}


def table(facts: dict[str, Any]) -> str:
    """What is printed: a line per pipeline and depth."""
    from timing import markdown

    header = ["SAE at", "pipeline", "tokens/s", "least to greatest", "of matmul", "geofilter ÷ it"]
    rows: list[list[object]] = []
    for depth, found in facts["depths"].items():
        for name, figures in found["pipelines"].items():
            rate = figures["tokens_per_s"]
            ratio = found["geofilter_is_times"].get(name, 1)
            if isinstance(ratio, dict):
                ratio = f"{ratio['median']} ({ratio['least']} to {ratio['greatest']})"
            target = facts["targets"].get(depth, {}).get(name)
            wanted = "" if target is None else f", wanted {target}"
            share = figures.get("share_of_matmul")
            rows.append(
                [
                    depth,
                    name,
                    f"{rate['median']:,.0f}",
                    f"{rate['least']:,.0f} to {rate['greatest']:,.0f}",
                    "" if share is None else f"{share:.0%}",
                    f"{ratio}{wanted}",
                ]
            )
    return markdown(header, rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for the models of true size")
    parser.add_argument("--part", choices=["cpu", "gpu"], help="default: what suits the device")
    parser.add_argument("--bergson-python", metavar="PATH", help="of an environment with bergson")
    parser.add_argument("--rows", type=int, help="default: 128, or 2,048 on a GPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--matmul", type=int, metavar="N", help="side of the squares multiplied")
    parser.add_argument("--model", help="on a GPU: this one of the two alone")
    parser.add_argument("--tiny", action="store_true", help="tiny models: tries the script only")
    parser.add_argument("--output", type=Path, help="default: in benchmarks/results")
    options = parser.parse_args(arguments)
    part = options.part or ("cpu" if options.device == "cpu" else "gpu")
    small = 256 if options.tiny else None
    with tempfile.TemporaryDirectory() as name:
        if part == "gpu":
            import speed_gpu

            options.rows = options.rows or 2048
            options.matmul = options.matmul or small or 8192
            facts = speed_gpu.measure(Path(name), options)
            shown = speed_gpu.table(facts)
        else:
            import random_parts

            options.rows = options.rows or 128
            options.matmul = options.matmul or small or 2048
            size = random_parts.tiny(random_parts.LLAMA) if options.tiny else random_parts.LLAMA
            facts = measure(Path(name), size, options)
            shown = table(facts)
    print(shown)
    output = options.output or RESULTS / f"speed_{part}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(score_in_this_process(sys.argv[2:]))
    sys.exit(main())
