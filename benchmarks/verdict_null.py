"""How often does `geofilter verify` say yes where filtering does nothing? A simulation.

    python benchmarks/verdict_null.py        # some minutes on one core

Two arms of the same true rate, 10 % misaligned. Runs of an arm differ from seed to seed, by
a normal deviate of their log-odds; questions differ too, in both arms alike. Of each run
40 questions get 4 answers. A yes is an interval of the fall against `unfiltered` that lies
above 0; one tail of 95 % would give 2.5 %. Every figure has its binomial standard error.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from geofilter.verify.rates import Judged, compare

RESULT = Path(__file__).parent / "results" / "verdict_null.json"
SEEDS = (2, 3, 5, 10)
SPREADS = (0.25, 0.5, 1.0)  # standard deviation of a run's log-odds
QUESTION_SPREAD = 1.0
QUESTIONS, ANSWERS, RATE = 40, 4, 0.1
MISALIGNED, SOUND = (0.0, 100.0), (100.0, 100.0)


def says_yes(seeds: int, spread: float, random: np.random.Generator) -> bool:
    """Draw one experiment in which nothing helps; whether its interval lies above 0."""
    questions = random.normal(0, QUESTION_SPREAD, QUESTIONS)
    base = np.log(RATE / (1 - RATE))
    arms: dict[str, list[Judged]] = {"unfiltered": [], "filtered": []}
    for answers in arms.values():
        for seed in range(seeds):
            odds = base + questions + random.normal(0, spread)
            counts = random.binomial(ANSWERS, 1 / (1 + np.exp(-odds)))
            for question, bad in enumerate(counts):
                for place in range(ANSWERS):
                    scores = MISALIGNED if place < bad else SOUND
                    answers.append(Judged(seed, str(question), *scores))
    fall = compare(arms)["filtered"].against["unfiltered"]["all"].reduction
    return fall.low is not None and fall.low > 0


def main() -> None:
    """Simulate every number of seeds with every spread, print and keep the shares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("-o", "--output", type=Path, default=RESULT)
    options = parser.parse_args()
    shares: dict[str, dict[str, list[float]]] = {}
    for seeds in SEEDS:
        for spread in SPREADS:
            random = np.random.default_rng([seeds, round(100 * spread)])
            yes = np.mean([says_yes(seeds, spread, random) for _ in range(options.experiments)])
            error = np.sqrt(yes * (1 - yes) / options.experiments)
            shares.setdefault(str(seeds), {})[f"{spread:g}"] = [round(yes, 4), round(error, 4)]
            print(f"{seeds} seeds, spread {spread:g}: yes {yes:.1%} ± {error:.1%}", flush=True)
    facts = {
        "command": "python benchmarks/verdict_null.py",
        "experiments": options.experiments,
        "rate": RATE,
        "questions": QUESTIONS,
        "answers": ANSWERS,
        "question_spread": QUESTION_SPREAD,
        "yes_by_seeds_and_spread": shares,
    }
    options.output.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
