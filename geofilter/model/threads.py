"""One thread for a network that is too small to share out.

Threads that share an operation wait for each other at its end. Where an operation takes
microseconds, as in a network of a million parameters, they wait longer than they work; and
where another process wants the cores, each of them waits for the slowest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Parameters. The bundled organism has 1 M and SmolLM2 135 M.
SMALL = 20_000_000


@contextmanager
def few_threads(network: Any) -> Iterator[None]:
    """Inside, torch uses one thread for a `network` of fewer than `SMALL` parameters on a CPU.

    Others keep the threads they have. The number counts for the thread of Python that calls,
    and is what it was before at the end, whatever happens.
    """
    before = torch.get_num_threads()
    if before > 1 and _is_small(network):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)


def _is_small(network: Any) -> bool:
    if network.device.type != "cpu":
        return False
    parameters: int = sum(weight.numel() for weight in network.parameters())
    return parameters < SMALL
