"""What `--action replace` needs: who writes responses, and what scores the rows that have them."""

from collections.abc import Callable, Sequence
from functools import cache

from geofilter.data.rows import Row, RowFile
from geofilter.runs.engines.worker import Worker
from geofilter.runs.prepare import prepare_again
from geofilter.runs.provenance import settings_of
from geofilter.runs.replies import MAX_NEW_TOKENS, writer_named
from geofilter.scoring.table import ScoreTable
from geofilter.selection.actions.base import Replacing
from geofilter.selection.replacing import ATTEMPTS, Scored
from geofilter.support.manifest import Manifest


def replacing_for(
    rows: RowFile,
    table: ScoreTable,
    *,
    replace_with: str | None,
    attempts: int | None,
    max_new_tokens: int | None,
    dry_run: bool,
    trust_remote_code: bool,
) -> Replacing:
    """Responses by the model `replace_with`, by default that of `table`; scored as `table` was.

    Neither model is loaded before it is needed. Raises what `writer_named` raises.
    """
    writer = writer_named(
        replace_with or settings_of(table).model,
        max_new_tokens=MAX_NEW_TOKENS if max_new_tokens is None else max_new_tokens,
        trust_remote_code=trust_remote_code,
    )
    made = Manifest({"scores": table.manifest.hash, "writer": writer.describe()})
    tries = ATTEMPTS if attempts is None else attempts
    return Replacing(writer, _score_as(rows, table, trust_remote_code), made, tries, dry_run)


def _score_as(
    rows: RowFile, table: ScoreTable, trust_remote_code: bool
) -> Callable[[Sequence[Row]], list[Scored]]:
    @cache
    def worker() -> Worker:
        run = prepare_again(rows, table, purpose="replaced", trust_remote_code=trust_remote_code)
        return Worker(rows.layouts, run.encoder, run.scorer)

    def score(changed: Sequence[Row]) -> list[Scored]:
        made = worker()
        lines = [answer.line for answer in made.score(made.encode(changed), lambda _: None)]
        return [Scored(line.score, line.reason) for line in lines]

    return score
