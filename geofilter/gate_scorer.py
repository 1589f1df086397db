"""The gate's scorer: the model of a policy, loaded, and what its scores are made with.

This module knows nothing about locks on the disk, thresholds or findings.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from geofilter.choices import Proximity, ScorerName
from geofilter.engines.worker import Worker
from geofilter.layouts import Layout
from geofilter.lock import Entry, Header
from geofilter.models import CATALOGUE
from geofilter.policy import Policy
from geofilter.rows import Row, RowFile
from geofilter.run import Run, Settings, prepare

# In a run's manifest: what belongs to one file, and what moves a score by rounding only.
_OF_THE_FILE = "data"
_OF_ROUNDING = "versions"


class PolicyScorer:
    """Scores rows as a policy says. `notes`: what was noticed while the model was loaded."""

    def __init__(self, run: Run, policy: Policy) -> None:
        decides = dict(run.manifest.decides)
        del decides[_OF_THE_FILE]
        versions = cast(dict[str, object], decides.pop(_OF_ROUNDING))
        self.header = Header(policy.asked(), decides, versions)
        self.notes = run.notes
        self._run = run

    def score(self, rows: Sequence[Row], layout: Layout) -> list[Entry]:
        """One entry per row, in order; no row's score depends on the others."""
        worker = Worker(layout, self._run.encoder, self._run.scorer)
        answers = worker.score(worker.encode(rows), lambda n_rows: None)
        return [
            Entry(answer.line.score, answer.line.status, answer.line.reason) for answer in answers
        ]


def load_scorer(policy: Policy, rows: RowFile, *, device: str = "auto") -> PolicyScorer:
    """Load what `policy` names. No policy can let a model run code that comes with it.

    Raises `ModelError`, `PackError`.
    """
    settings = Settings(
        model=_place(policy, policy.model),
        sae=None if policy.sae is None else _place(policy, policy.sae),
        block=policy.block,
        device=device,
        pack=str(policy.pack_path),
        scorer=cast(ScorerName, policy.scorer),
        proximity=cast(Proximity, policy.proximity),
        max_length=policy.max_length,
        last_turn=policy.last_turn,
        dtype=policy.dtype,
    )
    return PolicyScorer(prepare(rows, settings), policy)


def _place(policy: Policy, name: str) -> str:
    """A folder beside the policy, or else a name as it stands."""
    if name in CATALOGUE:
        return name
    beside = policy.root / Path(name).expanduser()
    return str(beside) if beside.exists() else name
