"""Tasks of lm-eval (the Language Model Evaluation Harness), to see what filtering costs elsewhere.

The library runs its own tasks on a cell's model as it is in memory, with its own defaults and
seeds; tasks are fetched as it fetches them. Nothing here reads a figure but to keep it.
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from geofilter.errors import GeofilterError, MissingExtraError
from geofilter.support.display import escape
from geofilter.verify.training.weights import CausalModel

# What a cell's folder calls the figures, by task.
TASKS = "lm_eval.json"
Figures = dict[str, dict[str, float]]


def import_lm_eval() -> tuple[Any, Any]:
    """lm-eval, and its module of transformers models. Raises `MissingExtraError` without them."""
    from importlib import import_module

    try:
        return import_module("lm_eval"), import_module("lm_eval.models.huggingface")
    except ImportError as error:
        raise MissingExtraError(
            "--lm-eval needs lm-eval, which is not installed; install it with: "
            "pip install 'geofilter[lm-eval]'"
        ) from error


def installed() -> str | None:
    """The version of lm-eval, which decides what a task is."""
    try:
        return version("lm-eval")
    except PackageNotFoundError:
        return None


def run_tasks(model: CausalModel, tasks: Sequence[str], batch: int) -> Figures:
    """The figures of each of `tasks`: every number that lm-eval gives, by its own name.

    Names are such as `acc,none` and `acc_stderr,none`; whether higher is better is the task's to
    say. `batch` requests go through the model at once. Raises `GeofilterError` where a task is not
    known or cannot be run.
    """
    lm_eval, transformers_models = import_lm_eval()
    try:
        wrapped = transformers_models.HFLM(
            pretrained=model.network, tokenizer=model.tokenizer, batch_size=batch
        )
        found = lm_eval.simple_evaluate(model=wrapped, tasks=list(tasks))
    except Exception as error:  # tasks are foreign code, and their data may be out of reach
        reason = escape(" ".join(str(error).split()), limit=200)
        raise GeofilterError(
            f"lm-eval did not run {', '.join(tasks)}: {reason}; see its tasks with `lm-eval ls "
            "tasks`, or leave out --lm-eval"
        ) from error
    return {
        str(task): {
            str(name): float(value)
            for name, value in figures.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        for task, figures in found["results"].items()
    }


def means(runs: Sequence[Figures]) -> Figures:
    """The mean of each figure over runs that have it, without standard errors of single runs."""
    found: dict[str, dict[str, list[float]]] = {}
    for run in runs:
        for task, figures in run.items():
            for name, value in figures.items():
                if "_stderr" not in name and name != "sample_len":
                    found.setdefault(task, {}).setdefault(name, []).append(value)
    return {
        task: {name: sum(values) / len(values) for name, values in figures.items()}
        for task, figures in found.items()
    }
