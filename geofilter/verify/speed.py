"""How fast a device trains, reads and writes with a model, measured without its weights.

A copy of the network with one block, and one with two, is filled with a constant and run for a
moment; every further block takes as long as the second. Nothing is fetched or drawn at random.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from geofilter.model.quiet import quiet_transformers
from geofilter.model.truncated import cut

# A model of so few blocks is measured whole.
_FEW_BLOCKS = 4
_CPU_TOKENS, _GPU_TOKENS = 256, 4096
# Answers that a CPU writes at once in a trial: more take it in proportion longer.
_CPU_ANSWERS = 32
_NEW_TOKENS = 4
_TRIALS = 5
_TRIAL_SECONDS = 0.2


class Speed(NamedTuple):
    """Seconds on one device: for a token that is trained on or read, and for writing one token.

    `write` is for one more token of each of a batch of answers. `blocks` of the network's
    `of_blocks` were there.
    """

    train: float
    read: float
    write: float
    blocks: int
    of_blocks: int


def speed_of(
    config: Any,
    device: torch.device,
    dtype: torch.dtype,
    *,
    whole: bool,
    batch: int,
    length: int,
    answers: int,
) -> Speed:
    """Measure a network of the shape `config`.

    `batch` samples of `length` tokens go through it at once, `answers` are written at once;
    `whole`: its weights are trained, and no adapter. Raises what transformers raises for a
    configuration that it cannot build by itself.
    """
    blocks = int(config.get_text_config().num_hidden_layers)
    depths = (blocks,) if blocks <= _FEW_BLOCKS else (1, 2)
    most = _CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS
    length = max(1, min(length, most))
    size = (max(1, min(batch, most // length)), length)
    tried = min(answers, _CPU_ANSWERS) if device.type == "cpu" else answers
    found = [
        _trial(blank(config, depth, device, dtype), size, tried, whole=whole) for depth in depths
    ]
    times = [
        first + (blocks - depths[0]) * max(0.0, second - first)
        for first, second in zip(found[0], found[-1], strict=True)
    ]
    tokens = size[0] * size[1]
    # On a GPU the forward pass is done twice, to save memory.
    again = times[1] if device.type == "cuda" else 0.0
    write = times[2] * answers / tried
    return Speed(
        (times[0] + again) / tokens, times[1] / tokens, write, depths[-1], of_blocks=blocks
    )


def blank(config: Any, depth: int | None, device: torch.device, dtype: torch.dtype) -> Any:
    """A causal network of `depth` blocks, or of all, whose every number is the same.

    On the device `meta` it has shapes and no numbers.
    """
    from transformers import AutoModelForCausalLM

    text = config.get_text_config() if depth is None else cut(config, depth)
    build: Any = AutoModelForCausalLM.from_config  # it has no types
    with quiet_transformers(), torch.device("meta"):
        network = build(text, dtype=dtype)
    if device.type == "meta":
        return network
    network = network.to_empty(device=device)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.fill_(0.01 if tensor.is_floating_point() else 0)
    return network


def _trial(
    network: Any, size: tuple[int, int], answers: int, *, whole: bool
) -> tuple[float, float, float]:
    """Seconds for a step of training, for reading as much, and for one token of each answer."""
    device = network.device
    ids = torch.zeros(size, dtype=torch.long, device=device)
    network.requires_grad_(whole)

    def train() -> None:
        inputs = network.get_input_embeddings()(ids)
        # An adapter's gradients pass through everything and stay in no weight.
        inputs = inputs if whole else inputs.detach().requires_grad_()
        logits = network(inputs_embeds=inputs, use_cache=False).logits
        loss: Any = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids.flatten())
        loss.backward()  # it has no types
        network.zero_grad(set_to_none=True)

    @torch.no_grad()
    def read() -> None:
        network(input_ids=ids, use_cache=False)

    asked = torch.zeros((answers, 2), dtype=torch.long, device=device)

    @torch.no_grad()
    def write() -> None:
        known, new = None, asked
        for _ in range(1 + _NEW_TOKENS):
            found = network(input_ids=new, past_key_values=known, use_cache=True)
            shares = found.logits[:, -1].float().softmax(-1)
            known, new = found.past_key_values, torch.multinomial(shares.nan_to_num(1.0), 1)

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return (
            _fastest(train, device),
            _fastest(read, device),
            (_fastest(write, device) / (1 + _NEW_TOKENS)),
        )


def _fastest(work: Callable[[], None], device: torch.device) -> float:
    """Seconds that `work` takes when nothing else is in the way."""
    times: list[float] = []
    # The first one prepares, but where one takes long it is the only one.
    while len(times) < _TRIALS and sum(times) < _TRIAL_SECONDS:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
