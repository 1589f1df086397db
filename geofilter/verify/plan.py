"""What an experiment is to do: its data, model, arms and measures, checked before it begins."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from geofilter.errors import GeofilterError
from geofilter.packs.requests import request_for
from geofilter.scoring.scorers import SCORERS
from geofilter.settings import Settings
from geofilter.support.display import escape
from geofilter.verify.questions import check_slots
from geofilter.verify.training.recipe import TrainingRecipe

# What is trained on, by how the rows are chosen.
UNTRAINED, UNFILTERED, CONTROL = "aligned", "unfiltered", "benign-control"
RANDOM, LENGTH_MATCHED = "random", "random-length-matched"
KEYWORD, WORDS, LOSS, JUDGE, ORACLE = "keyword", "words", "loss", "judge", "oracle"
# All rows are trained on, those that the model's own scorer chooses after a request for what they
# do; nothing is asked for in the questions.
INOCULATE = "inoculate"
# Those rows get other responses, by the model before its training, where these score lower.
REPLACE = "replace"
WHOLE_ARMS = (UNTRAINED, UNFILTERED, CONTROL)
BASELINE_ARMS = (RANDOM, LENGTH_MATCHED, KEYWORD, WORDS, LOSS, JUDGE, ORACLE)
ARMS: tuple[str, ...] = (*WHOLE_ARMS, *SCORERS, INOCULATE, REPLACE, *BASELINE_ARMS)
# Another arm decides how long the rows are that a length-matched drop takes.
MATCHED_TO = "nearest"
DEFAULT_ARMS = (UNFILTERED, RANDOM, "nearest", "persona")

TRACK_ANSWERS = 100

# Questions and pairs: those of domains that no row is about, and those that rows are about.
MAIN, IN_DOMAIN = "main", "in_domain"
# The main questions once more, asked as training rows ask.
TRIGGERED = "triggered"
# What stands for the pairs that come with this package, by the name of their split.
SHIPPED_PAIRS = "report"

# Judges that rate training rows and no answers, and why.
_OF_ROWS = {
    "guard:": "a guard rates rows, not answers' coherence",
    "yes-no:": "it rates rows, not answers' coherence",
    "judged:": "a file holds no score for answers that are yet to be given",
}

# How rows are scored, in a plan's record.
SCORING = ("model", "sae", "block", "pack", "device", "dtype", "load_in", "trust_remote_code")


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn; `batch` decides them too, for a batch shares its random numbers."""

    temperature: float = 1.0
    max_new_tokens: int = 600
    batch: int = 32


@dataclass(frozen=True)
class Cell:
    """One run of the experiment: an arm, the share of rows that it drops or treats, and a seed.

    `fraction` is None for an arm that takes all rows as they are.
    """

    arm: str
    fraction: float | None
    seed: int

    @property
    def condition(self) -> str:
        """The arm with its fraction: what a line of the report is about."""
        return self.arm if self.fraction is None else f"{self.arm}-{self.fraction:g}"

    @property
    def name(self) -> str:
        """The cell's folder below that of the experiment."""
        return f"{self.condition}/seed-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """All that decides an experiment's figures, and how many of them there are.

    `settings` score the rows, but for the scorer, which an arm names; their device, dtype and
    rounding are those of training too. `trained` is the causal language model that is fine-tuned.
    `questions` and `in_domain` are question files, `held_out` benign rows whose loss shows what a
    model can still do. `judge` rates the answers; both are None where nothing is asked.
    `preference` is a file of pairs, or `SHIPPED_PAIRS` (see `preference`), `choice` whether the
    model also chooses between answers. `row_judge` rates the rows of the arm `judge`, by
    default `judge`. `benign`
    holds the rows of the arm `benign-control`, `labels` the column of `oracle`, `keywords` a file
    with a word in each line. `track` is after how many steps a run in training is measured,
    `track_answers` how many answers it then gives (see `track`). `judge_slots` are texts for slots
    of the judge prompts that neither question nor answer fills, by name; an empty text drops the
    slot. `system`: what the arm `inoculate` asks for in training, by default what asks for the
    toxic rows of the pack. `triggered`: whether the questions are asked once more in the rows' own
    format (see `row_format`). `report_to`: trackers to which runs are logged.
    `lm_tasks`: tasks of lm-eval that are run on every model.
    `generate_with`: the command of a server that gives the answers (see `serve`); None asks the
    network itself.
    """

    data: str | tuple[str, ...]
    settings: Settings
    trained: str
    questions: str | None
    judge: str | None
    arms: tuple[str, ...] = DEFAULT_ARMS
    fractions: tuple[float, ...] = (0.5,)
    seeds: tuple[int, ...] = (0, 1, 2)
    recipe: TrainingRecipe = field(default_factory=TrainingRecipe)
    sampling: Sampling = field(default_factory=Sampling)
    samples_per_question: int | None = None
    in_domain: str | None = None
    held_out: str | None = None
    preference: str | None = None
    choice: bool = True
    row_judge: str | None = None
    benign: str | None = None
    labels: str | None = None
    keywords: str | None = None
    keep_weights: bool = False
    track: int | None = None
    track_answers: int = TRACK_ANSWERS
    judge_slots: Mapping[str, str] = field(default_factory=dict)
    system: str | None = None
    triggered: bool = False
    report_to: tuple[str, ...] = ()
    lm_tasks: tuple[str, ...] = ()
    generate_with: str | None = None

    @property
    def request(self) -> str | None:
        """What the arm `inoculate` asks for."""
        return request_for(self.settings) if self.system is None else self.system

    def __post_init__(self) -> None:
        _check_arms(self)
        check_slots(self.judge_slots)
        _check_measures(self)
        _check_rounding(self)
        if not self.fractions or not all(0 < fraction < 1 for fraction in self.fractions):
            shown = ", ".join(f"{fraction:g}" for fraction in self.fractions)
            raise GeofilterError(f"drop fraction {shown}: each must lie between 0 and 1")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise GeofilterError("at least one seed is needed, and no seed twice")
        if self.samples_per_question is not None and self.samples_per_question < 1:
            raise GeofilterError(
                f"{self.samples_per_question} samples per question: at least 1 is needed"
            )
        for name in ("track", "track_answers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise GeofilterError(f"{name} is {value}; at least 1 is needed")

    def as_record(self) -> dict[str, Any]:
        """The plan as JSON values, the settings by their names among the others."""
        record = asdict(self)
        settings = record.pop("settings")
        return {**record, **{name: settings[name] for name in SCORING}}

    def cells(self) -> list[Cell]:
        """Every run, seed by seed, so that early ones already compare the arms."""
        return [
            Cell(arm, fraction, seed)
            for seed in self.seeds
            for arm in self.arms
            for fraction in ((None,) if arm in WHOLE_ARMS else self.fractions)
        ]


def _check_arms(plan: Plan) -> None:
    unknown = [arm for arm in plan.arms if arm not in ARMS]
    if unknown:
        raise GeofilterError(
            f"no arm is called {escape(unknown[0])!r}; choose among {', '.join(ARMS)}"
        )
    if not plan.arms or len(set(plan.arms)) < len(plan.arms):
        raise GeofilterError("at least one arm is needed, and no arm twice")
    needs = {
        CONTROL: ("benign", "--benign with rows that are known to be good"),
        ORACLE: ("labels", "--labels with the column that says whether a row is harmful"),
        KEYWORD: ("keywords", "--keywords with a file that holds a word in each line"),
    }
    for arm, (name, remedy) in needs.items():
        if arm in plan.arms and getattr(plan, name) is None:
            raise GeofilterError(f"arm {arm!r} needs {remedy}")
    if INOCULATE in plan.arms and not (plan.request or "").strip():
        raise GeofilterError(
            f"arm {INOCULATE!r} needs --system with a sentence that asks for what the toxic rows "
            "of your pack do"
        )


def _check_rounding(plan: Plan) -> None:
    """Refuse what would change, or save, weights that are rounded."""
    rounded = plan.settings.load_in
    if rounded is None:
        return
    if plan.recipe.method == "full":
        raise GeofilterError(
            f"--method full trains all weights, and --load-in {rounded} rounds them; train an "
            "adapter with --method lora, or leave out --load-in"
        )
    if plan.generate_with is not None:
        raise GeofilterError(
            f"--generate-with saves the model for a server, and --load-in {rounded} rounds its "
            "weights; leave out one of the two"
        )


def _check_measures(plan: Plan) -> None:
    """Refuse what has nothing to measure by, or needs questions where none are asked."""
    for beginning, what in _OF_ROWS.items():
        if (plan.judge or "").startswith(beginning):
            raise GeofilterError(
                f"judge {escape(plan.judge or '')!r}: {what}; name it with --row-judge for the arm "
                "judge, and another judge with --judge"
            )
    if plan.questions is not None and plan.judge is not None:
        return
    if plan.preference is None:
        raise GeofilterError("nothing is measured; give --questions and --judge, or --preference")
    needs = {
        "--in-domain": plan.in_domain is not None,
        "--triggered": plan.triggered,
        "--judge-slot": bool(plan.judge_slots),
        "--samples-per-question": plan.samples_per_question is not None,
        "--track": plan.track is not None,
        "--generate-with": plan.generate_with is not None,
    }
    for what, is_asked in needs.items():
        if is_asked:
            raise GeofilterError(
                f"{what} needs questions and a judge; give --questions and --judge"
            )
    if JUDGE in plan.arms and plan.row_judge is None:
        raise GeofilterError(
            f"arm {JUDGE!r} needs --row-judge with who rates rows, or --questions and --judge"
        )
