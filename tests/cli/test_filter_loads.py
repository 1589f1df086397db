"""`geofilter filter` runs no model, and loads no library of one."""

from pathlib import Path

import pytest

from helpers.fresh_process import type_command

pytestmark = pytest.mark.slow

# Runs a command line as `python -m geofilter` does, then names what it should not have loaded.
PROGRAM = """
import sys
from geofilter.cli.main import main
code = main(sys.argv[1:])
print(*sorted({"torch", "faiss", "transformers", "datasets"} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize(
    "options",
    [
        "--drop-fraction 0.2 --dropped out.jsonl",
        "--threshold 0.1",
        "--fdr 0.5 --reference other.parquet",
        "--drop-fraction 0.2 --action weight",
        "--drop-fraction 0.2 --action inoculate --system no",
        "--drop-fraction 0.2 --action review --review out.csv",
        "--drop-rows list.csv --dropped out.jsonl",
        "--curve",
    ],
)
def test_a_score_table_is_filtered_without_the_libraries_of_models(
    work, geofilter, options
) -> None:
    output = "" if "--curve" in options else "-o kept.jsonl"
    Path("list.csv").write_text("row\n3\n")
    if "--fdr" in options:
        scored = geofilter(
            "score other.jsonl --model model --sae sae --pack my.pack -o other.parquet"
        )
        assert scored.code == 0, scored.err
    words = f"filter data.jsonl --scores data.scores.parquet {options} {output}"
    done = type_command(words, work, {}, ["-c", PROGRAM])
    assert done.code == 0, done.err
    assert not done.err.splitlines()[-1]
