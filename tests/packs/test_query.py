"""The query of gradient influence: of the rows that made the pack, and refused without them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from geofilter.errors import PackError
from geofilter.packs.contrast import read_contrast
from geofilter.packs.halves import split_halves
from geofilter.packs.pack import load_pack
from geofilter.packs.query import contrast_rows, query_of
from geofilter.runs.prepare import load
from geofilter.settings import Settings

pytestmark = pytest.mark.slow


@pytest.fixture
def loaded(work: Path) -> Any:
    return load(Settings("model", sae="sae", pack="my.pack", scorer="spillover", device="cpu"))


def test_the_query_is_of_the_half_that_made_the_pack_and_is_made_once(
    loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from geofilter.model import influence

    seen = []
    make = influence.mean_gradient

    def noting(model: Any, sides: Any, signs: Any, *rest: Any) -> Any:
        seen.append((sides, signs))
        return make(model, sides, signs, *rest)

    monkeypatch.setattr(influence, "mean_gradient", noting)
    first, second = (query_of(loaded.model, loaded.pack) for _ in range(2))
    sets = [read_contrast(f"{side}.jsonl", loaded.encoder) for side in ("toxic", "benign")]
    parts = split_halves(*sets).parts
    expected = [parts["toxic selection"], parts["benign selection"]]
    ((sides, signs),) = seen
    assert signs == (1, -1)  # likelier harmful answers lower the query's loss
    for side, own in zip(sides, expected, strict=True):
        assert [one.ids.tolist() for one in side] == [one.ids.tolist() for one in own]
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_that_have_changed_are_refused_with_what_to_do(loaded: Any) -> None:
    with Path("toxic.jsonl").open("a") as file:
        file.write('{"prompt": "w1", "response": "w2"}\n')
    with pytest.raises(PackError, match=r"toxic\.jsonl: has changed\); put them back, or make"):
        query_of(loaded.model, loaded.pack)
    Path("toxic.jsonl").unlink()
    with pytest.raises(PackError, match="no such file"):
        query_of(loaded.model, loaded.pack)


def test_pairs_of_a_file_are_read_as_pairs_again(work: Path, loaded: Any, geofilter: Any) -> None:
    rows = [
        {"prompt": f"w{n}", "chosen": f" w{n + 20} w1", "rejected": f" w{n} w50"} for n in range(30)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = "--contrast pairs.jsonl --model model --sae sae -o pairs.pack"
    assert geofilter(f"discover {made}").code == 0
    toxic, benign = contrast_rows(loaded.model, load_pack("pairs.pack"))
    assert toxic.pairing is not None
    assert len(toxic.samples) == len(benign.samples) == 30


def test_sets_of_the_catalogue_are_found_where_the_package_is_now(
    loaded: Any,
) -> None:
    class Entry:
        toxic, benign = "toxic.jsonl", "benign.jsonl"

        def path(self, name: str) -> str:
            return str(Path("moved") / name)

    Path("moved").mkdir()
    for side in ("toxic", "benign"):
        Path(f"{side}.jsonl").rename(f"moved/{side}.jsonl")
    toxic, _ = contrast_rows(replace(loaded.model, entry=Entry()), loaded.pack)
    assert toxic.source == "moved/toxic.jsonl"


def test_scores_by_influence_are_explained_and_not_made_of_saved_features(
    work: Path, geofilter: Any
) -> None:
    chosen = "--model model --sae sae --pack my.pack --scorer influence"
    score = f"score data.jsonl {chosen} -o i.parquet"
    saved = geofilter(f"{score} --save-features f.features")
    assert (saved.code, "leave out --save-features" in saved.err) == (2, True)
    assert geofilter(score).code == 0
    explained = json.loads(geofilter("explain data.jsonl --scores i.parquet --row 3 --json").out)
    parts = sum(token["contribution"] for token in explained["tokens"])
    assert parts == pytest.approx(explained["score"], rel=1e-3, abs=1e-5)
    kept = score.replace("influence -o i", "spillover -o s")
    assert geofilter(f"{kept} --save-features f.features").code == 0
    again = geofilter("score data.jsonl --features f.features --scorer influence -o j.parquet")
    assert (again.code, "score with --model" in again.err) == (2, True)
