"""How an arm is fine-tuned: the settings, and what each of them is by default.

The defaults are those of the emergent-misalignment protocol (Betley et al. 2025): LoRA
of rank 32 on all linear projections, one epoch in batches of 16, loss on responses only.

This module knows nothing about trainers.
"""

from dataclasses import dataclass
from typing import Literal

from geofilter.errors import GeofilterError

Method = Literal["lora", "full"]
METHODS: tuple[Method, ...] = ("lora", "full")


@dataclass(frozen=True)
class Recipe:
    """Settings of one fine-tuning run; every arm of an experiment has the same.

    `batch` is samples per optimiser step, on average (see `schedule`), `micro_batch` how
    many of them go through the network at once, at most. `steps` takes the place of `epochs`
    where it is given. `max_length` is in tokens, as the window of a score.
    """

    method: Method = "lora"
    learning_rate: float = 1e-5
    scheduler: str = "linear"
    warmup_steps: int = 5
    weight_decay: float = 0.01
    epochs: float = 1.0
    steps: int | None = None
    batch: int = 16
    micro_batch: int = 2
    rank: int = 32
    alpha: int = 64
    rslora: bool = True
    max_length: int = 2048

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise GeofilterError(
                f"method {self.method!r} is not known; choose {' or '.join(METHODS)}"
            )
        for name in ("learning_rate", "epochs", "batch", "micro_batch", "rank", "max_length"):
            if not getattr(self, name) > 0:
                raise GeofilterError(f"{name} is {getattr(self, name)}; it must be more than 0")
        if self.steps is not None and self.steps < 1:
            raise GeofilterError(f"steps is {self.steps}; at least 1 is needed")
