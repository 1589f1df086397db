"""Runs in an experiment tracker: trackio, Weights & Biases or MLflow.

Training is logged by the trainer's own integration, as for any other trainer (their environment
variables hold, such as WANDB_PROJECT). What was measured of the trained model is added to the
same run afterwards.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from geofilter.errors import GeofilterError, MissingExtraError
from geofilter.support.display import escape

# The project to which a trainer logs with trackio by default.
_TRACKIO_PROJECT = "huggingface"


def check_trackers(names: Sequence[str]) -> None:
    """Raise `MissingExtraError` for a tracker that is not installed."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise MissingExtraError(
                f"--report-to {name} needs the package {name}, which is not installed; install it "
                f"with: pip install {name}, or leave the option out"
            ) from error


def log_measures(
    names: Sequence[str], run: str, measures: Mapping[str, float], *, trained: bool
) -> None:
    """Add `measures` to the run called `run` and end it, in each of the trackers `names`.

    `trained`: whether it was trained by this process just now; else a run of that name is begun.
    Raises `GeofilterError` where a tracker fails.
    """
    for name in names:
        try:
            _LOG[name](importlib.import_module(name), run, dict(measures), trained)
        except Exception as error:  # of a foreign library and, mostly, of the network
            reason = escape(" ".join(str(error).split()), limit=200)
            raise GeofilterError(
                f"{name} did not take the measures of {run}: {reason}; the run is done and kept: "
                "run again to go on, without --report-to if it stays so"
            ) from error


def _trackio(trackio: Any, run: str, measures: dict[str, float], trained: bool) -> None:
    trackio.init(project=_TRACKIO_PROJECT, name=run, resume="allow")
    trackio.log(measures)
    trackio.finish()


def _wandb(wandb: Any, run: str, measures: dict[str, float], trained: bool) -> None:
    # The integration leaves its run open, and would log the next training into it.
    if wandb.run is None:
        wandb.init(name=run)
    wandb.log(measures)
    wandb.finish()


def _mlflow(mlflow: Any, run: str, measures: dict[str, float], trained: bool) -> None:
    last = mlflow.last_active_run() if trained else None
    begun = {"run_name": run} if last is None else {"run_id": last.info.run_id}
    with mlflow.start_run(**begun):
        mlflow.log_metrics(measures)


_LOG: dict[str, Callable[[Any, str, dict[str, float], bool], None]] = {
    "trackio": _trackio,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
TRACKERS = tuple(_LOG)
