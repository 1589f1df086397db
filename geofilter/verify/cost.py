"""What an experiment costs: steps, tokens, answers, judge calls, time and disk, part by part.

`estimate` counts them before anything runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from geofilter.verify.speed import Speed
from geofilter.verify.training.recipe import Budget

Span = tuple[float, float]


@dataclass(frozen=True)
class ArmCost:
    """What all runs of one condition take.

    `steps` of the optimiser; `trained_tokens` pass through the network forwards and backwards,
    prompts included, and `read_tokens` forwards: held-out rows and pairs. `answers` have
    `new_tokens` at most. `judge_calls`: two for each judged answer. `seconds` is (least, most) on
    this device without what a judge on a server takes; None where the speed is not known. `disk`
    is in bytes, and stays.
    """

    name: str
    runs: int
    steps: int
    trained_tokens: int
    read_tokens: int
    answers: int
    new_tokens: int
    judge_calls: int
    judge_tokens: int  # of the judge's prompts, at most
    seconds: Span | None
    disk: int


@dataclass(frozen=True)
class StudyCost:
    """What a plan takes: `arms`, and before them `choosing` the rows of each and `before`.

    `answers_per_run` is by the set of questions. `choosing` has what the scores of an arm cost,
    once for all seeds. `memory` is the peak of one worker in bytes, `disk` that of all with
    `workers` side by side. `notes` say what is uncertain or not counted.
    """

    arms: tuple[ArmCost, ...]
    before: ArmCost
    choosing: tuple[ArmCost, ...]
    rows: int
    answers_per_run: Mapping[str, int]
    budget: Budget
    memory: int
    weights: int  # bytes of what one run saves
    disk: int
    workers: int
    device: str
    speed: Speed | None
    notes: tuple[str, ...]

    @property
    def parts(self) -> tuple[ArmCost, ...]:
        """All of it, in the order in which it runs."""
        return (self.before, *self.choosing, *self.arms)

    @property
    def total(self) -> ArmCost:
        """The sum over everything, one run after the other."""
        return total_of("total", self.parts, runs=sum(arm.runs for arm in self.arms))

    def as_record(self) -> dict[str, Any]:
        """The cost as JSON values."""
        return {**asdict(self), "total": asdict(self.total)}


def total_of(name: str, parts: Sequence[ArmCost], *, runs: int) -> ArmCost:
    """The sum of `parts`, done one after the other; no time where that of one is not known."""

    def add(of: Callable[[ArmCost], int]) -> int:
        return sum(map(of, parts))

    spans = [part.seconds for part in parts]
    seconds = None
    if all(span is not None for span in spans):
        least, most = (sum(ends) for ends in zip(*filter(None, spans), strict=True))
        seconds = (least, most)
    return ArmCost(
        name,
        runs,
        add(lambda one: one.steps),
        add(lambda one: one.trained_tokens),
        add(lambda one: one.read_tokens),
        add(lambda one: one.answers),
        add(lambda one: one.new_tokens),
        add(lambda one: one.judge_calls),
        add(lambda one: one.judge_tokens),
        seconds,
        add(lambda one: one.disk),
    )
