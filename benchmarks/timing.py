"""Clocks, ceilings and counts that the benchmarks of speed share.

This module knows nothing about geofilter's features or scores, nor what is timed.
"""

import os
import platform
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import torch

from geofilter.model.loading import find_blocks
from geofilter.support.manifest import library_versions


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with everything on the device done."""
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    work: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of every work in every round; the order turns, so that no place is favoured."""
    names = list(work)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(seconds(work[name], device))
    return times


def spread(values: Iterable[float], digits: int = 3) -> dict[str, float]:
    """Median, least and greatest."""
    known = list(values)
    named = {"median": median(known), "least": min(known), "greatest": max(known)}
    return {name: round(value, digits) for name, value in named.items()}


def matmul_ceiling(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOP/s of the best of several products of two square matrices, (size, size)."""
    left = torch.randn(size, size, device=device, dtype=dtype)
    right = torch.randn(size, size, device=device, dtype=dtype)
    for _ in range(3):
        left @ right
    best = min(seconds(lambda: left @ right, device) for _ in range(10))
    return 2 * size**3 / best


def forward_flop(network: Any, blocks: int, lengths: Iterable[int]) -> float:
    """FLOP of the matrix products of the first `blocks` blocks over samples of `lengths` tokens.

    Of tokens that are there: padding counts nothing, and attention looks back only.
    """
    config = network.config.get_text_config()
    used = find_blocks(network).blocks[:blocks]
    weights = sum(p.numel() for block in used for p in block.parameters() if p.ndim == 2)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = config.num_attention_heads * head
    # Scores and values, 2 products of a multiplication and an addition, over half of the square.
    return sum(2.0 * weights * n + 2.0 * blocks * width * n * (n + 1) for n in lengths)


def peak_memory_mib(device: torch.device) -> float | None:
    """The most memory held since `forget_peak`: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    with suppress(OSError):  # only Linux has it
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return round(int(line.split()[1]) / 1024, 1)
    return None


def forget_peak(device: torch.device) -> None:
    """Begin to watch for a new peak, from what is held now."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were taken on, and with which versions."""
    facts: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
    }
    if device.type == "cuda":
        facts["gpu"] = torch.cuda.get_device_name(device)
        facts["cuda"] = torch.version.cuda
    names = ("geofilter", "torch", "transformers", "tokenizers", "sae-lens", "transformer-lens")
    facts["versions"] = {"python": platform.python_version(), **library_versions(names)}
    return facts


def _processor() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    return platform.processor()


def markdown(header: list[str], rows: Iterable[list[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
