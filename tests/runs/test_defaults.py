"""What settings leave open is filled in once, and nothing is loaded for it."""

import subprocess
import sys

import pytest

from geofilter.errors import PackError
from geofilter.model.catalogue import CATALOGUE, CatalogueEntry
from geofilter.runs.defaults import BY_RULE, default_scorer, resolved, scorer_of
from geofilter.scoring.scorers import SCORERS
from geofilter.settings import Settings


def entry(scorer: str | None) -> CatalogueEntry:
    return CatalogueEntry("m", "ORG/M", {}, "", scorer=scorer)


def test_an_entry_s_own_scorer_stands_where_it_can_be_used():
    assert default_scorer(entry("direction"), has_sae=True) == "direction"
    assert default_scorer(entry("spillover"), has_sae=False) == "spillover"


@pytest.mark.parametrize("given", [None, entry(None), entry("direction")])
def test_without_an_sae_no_default_needs_one(given):
    assert not SCORERS[default_scorer(given, has_sae=False)].needs_sae
    assert default_scorer(given, has_sae=False) == BY_RULE


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_model_of_the_catalogue_has_a_scorer_that_it_can_use(name):
    scorer = scorer_of(Settings(name))
    assert CATALOGUE[name].sae or not scorer.needs_sae


def test_a_scorer_that_is_named_is_the_one():
    assert resolved(Settings("organism", scorer="direction")).scorer == "direction"
    with pytest.raises(PackError, match="no scorer is called 'loudness'"):
        resolved(Settings("organism", scorer="loudness"))


def test_the_record_of_a_run_names_the_scorer_that_was_left_open(work, geofilter):
    from geofilter.runs.provenance import settings_of
    from geofilter.scoring.table import ScoreTable

    options = "--model ./model --sae ./sae --pack my.pack"
    assert geofilter(f"score data.jsonl {options} --save-features f -o s.parquet").code == 0
    assert geofilter("score data.jsonl --features f -o again.parquet").code == 0
    for name in ("s.parquet", "again.parquet"):
        table = ScoreTable.read(name)
        default = scorer_of(Settings("./model", sae="./sae")).name
        assert table.manifest.decides["scorer"]["name"] == default
        assert settings_of(table).scorer == default


def test_filling_in_loads_no_library_that_takes_time():
    code = (
        "import sys; from geofilter.runs.defaults import resolved; "
        "from geofilter.settings import Settings; resolved(Settings('organism')); "
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"torch", "transformers", "click"}.isdisjoint(done.stdout.split())
