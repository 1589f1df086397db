"""A SARIF log holds what a code host takes: the worst findings first, and says what is left out."""

import gzip
import json
import random

import pytest

from geofilter.gate import sarif
from geofilter.gate.check import Verdict
from geofilter.gate.findings import RULES, Finding
from geofilter.gate.policy import Policy
from geofilter.gate.sarif import MAX_RESULTS, SHOWN_RESULTS, sarif_log
from helpers.cli_folder import Geofilter
from helpers.finding_readers import VALIDATOR


def near(number: int, score: float) -> Finding:
    return Finding(
        "near-harm", "f.jsonl", number, f"f.jsonl:{number}", f"score {score}", None, score
    )


def of_log(text: str) -> tuple[list[int], list[str]]:
    """The lines of the results, and the notifications."""
    log = json.loads(text)
    (run,) = log["runs"]
    places = [one["locations"][0]["physicalLocation"]["region"] for one in run["results"]]
    notes = [
        note["message"]["text"]
        for one in run.get("invocations", [])
        for note in one["toolExecutionNotifications"]
    ]
    return [place["startLine"] for place in places], notes


def test_what_a_host_shows_whole_stays_in_the_order_of_the_file() -> None:
    findings = [near(n + 1, n) for n in range(SHOWN_RESULTS)]
    assert of_log(sarif_log(findings)) == ([n + 1 for n in range(SHOWN_RESULTS)], [])


def test_what_a_host_shows_in_part_begins_with_the_worst() -> None:
    findings = [near(n + 1, n) for n in range(SHOWN_RESULTS + 1)]
    lines, (note,) = of_log(sarif_log(findings))
    assert lines == list(range(SHOWN_RESULTS + 1, 0, -1))
    assert "first 5,000" in note
    assert "of 5,001 findings" in note


@pytest.mark.parametrize(("most", "more"), [(300, 0), (300, 200), (MAX_RESULTS, 1)])
def test_a_host_is_never_given_more_than_it_takes(
    most: int, more: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sarif, "MAX_RESULTS", most)
    monkeypatch.setattr(sarif, "SHOWN_RESULTS", min(most, SHOWN_RESULTS) - 1)
    scores = list(range(most + more))
    random.Random(0).shuffle(scores)
    text = sarif_log([near(n + 1, score) for n, score in enumerate(scores)])
    VALIDATOR.validate(json.loads(text) | {"runs": []})
    lines, (note,) = of_log(text)
    assert [scores[line - 1] for line in lines] == sorted(scores, reverse=True)[:most]
    assert ("rejects more" in note) is bool(more)
    assert f"{len(scores):,} findings" in note
    assert len(gzip.compress(text.encode())) < 10_000_000


def test_long_messages_that_do_not_compress_are_cut_by_their_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("geofilter.gate.sarif.MAX_BYTES", 20_000)
    words = random.Random(0)
    findings = [
        Finding("near-harm", "f", n + 1, "f", words.randbytes(400).hex(), None, n)
        for n in range(100)
    ]
    text = sarif_log(findings)
    lines, (note,) = of_log(text)
    assert 20 < len(lines) < 60
    assert lines == list(range(100, 100 - len(lines), -1))
    assert f"the worst {len(lines)} of 100 findings, for GitHub rejects more;" in note
    results = json.dumps(json.loads(text)["runs"][0]["results"], indent=1)
    assert len(gzip.compress(results.encode())) <= 20_000


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that takes 300 results and shows 100."""
    monkeypatch.setattr(sarif, "MAX_RESULTS", 300)
    monkeypatch.setattr(sarif, "SHOWN_RESULTS", 100)


@pytest.mark.usefixtures("few")
def test_what_concerns_a_lock_or_a_file_is_worse_than_a_row() -> None:
    kinds = [kind for kind in RULES if kind != "near-harm"]
    others = [Finding(kind, "f", n + 1, "f", "m") for n, kind in enumerate(kinds)]
    rows = [near(100 + n, n) for n in range(300)]
    results = json.loads(sarif_log([*rows, *others]))["runs"][0]["results"]
    assert [one["ruleId"] for one in results[:5]] == [
        "stale-lock",
        "edited-lock",
        "other-score",
        "not-locked",
        "near-harm",
    ]
    assert results[-1]["ruleId"] == "near-harm"


def test_a_log_with_notifications_is_valid() -> None:
    passed = [Finding("unscored", "f {0}.jsonl", line, "f", "m [a](b) {0}") for line in (3, None)]
    log = json.loads(sarif_log([near(1, 0.5)], passed))
    VALIDATOR.validate(log)
    (_, first), (_, second) = (of_log(json.dumps(log))[1] for _ in range(2))
    assert first == second
    assert "{{0}}" in first
    assert "](" not in first


@pytest.mark.usefixtures("few")
def test_standard_error_says_what_the_log_leaves_out(
    policy: Policy, geofilter: Geofilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    findings = tuple(near(n + 1, n) for n in range(307))
    verdict = Verdict(policy, ("f.jsonl",), findings, n_rows=len(findings))
    monkeypatch.setattr("geofilter.gate.check.check_files", lambda *_, **__: verdict)
    said = "the log holds the worst 300 of 307 findings"
    done = geofilter("check --format sarif f.jsonl")
    assert (done.code, len(of_log(done.out)[0])) == (1, 300)
    assert said in done.err
    whole = geofilter("check f.jsonl")
    assert said not in whole.err
    assert whole.out.count("\n") == len(findings)
