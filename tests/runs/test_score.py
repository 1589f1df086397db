"""Scoring as one call: each row is tokenised once, and refused before a model is loaded."""

import json

import numpy as np
import pytest

import geofilter
from geofilter.data.encoder import Encoder
from geofilter.errors import DataError, PackError
from geofilter.model import loading
from geofilter.runs.encodings import KnownEncodings
from geofilter.runs.score import score
from geofilter.scoring.table import ScoreTable
from geofilter.settings import Settings

pytestmark = pytest.mark.slow

SETTINGS = Settings("model", sae="sae", pack="my.pack")


def test_one_call_does_what_the_command_does(work, geofilter):
    assert (
        geofilter("score data.jsonl --model model --sae sae --pack my.pack -o c.parquet").code == 0
    )
    made = score("data.jsonl", SETTINGS).table
    assert made.path.name == "data.jsonl.scores.parquet"
    np.testing.assert_array_equal(made.scores, ScoreTable.read("c.parquet").scores)


def test_the_package_exports_the_call(work):
    assert geofilter.score is score


def test_every_row_is_tokenised_once(work, monkeypatch):
    encoded = []
    real = Encoder.encode

    def counted(self, sample):
        encoded.append(sample)
        return real(self, sample)

    monkeypatch.setattr(Encoder, "encode", counted)
    table = score("data.jsonl", SETTINGS).table
    assert len(encoded) == len(set(map(repr, encoded))) == len(table) == 40


def test_a_row_that_cannot_be_scored_is_refused_before_the_model_is_loaded(work, monkeypatch):
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("the model was loaded"))
    with open("data.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"prompt": "w1", "response": ""}) + "\n")
    with pytest.raises(DataError, match=r"data\.jsonl:41: .*--on-error keep"):
        score("data.jsonl", SETTINGS)


def test_a_missing_pack_is_refused_before_the_rows_are_read(work):
    with pytest.raises(PackError, match=r"no\.pack"):
        score("data.jsonl", Settings("model", sae="sae", pack="no.pack"))


def test_encodings_after_the_bound_are_made_again():
    class Counting:
        calls = 0

        def encode(self, sample):
            self.calls += 1
            return type("Encoded", (), {"ids": range(10)})()

    encoder = Counting()
    known = KnownEncodings(encoder, most_tokens=15)
    for sample in ("a", "b", "a", "b"):
        known.encode(sample)
    assert encoder.calls == 3
