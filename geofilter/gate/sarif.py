"""Findings as SARIF 2.1.0, no more of them than a code host takes.

GitHub rejects a log with more than 25,000 results in a run, and of more than 5,000 shows those
that are most severe. Ours are all errors, so above that they stand in their order: what speaks
against a lock or a whole file, then rows from the nearest to harm on, then rows without a score.
What was left out, and what passed without a score, is said in notifications of the run.
"""

import json
import math
import os
import re
from collections.abc import Sequence
from urllib.parse import quote

from geofilter.gate.findings import RULES, Finding, Kind
from geofilter.support.display import inert
from geofilter.support.manifest import library_versions

MAX_RESULTS = 25_000
SHOWN_RESULTS = 5_000
_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
# What concerns more than one row comes first.
_WORST_FIRST: Sequence[Kind] = (
    "stale-lock",
    "edited-lock",
    "other-score",
    "not-locked",
    "near-harm",
    "unscored",
)


def sarif_log(findings: Sequence[Finding], passed: Sequence[Finding] = ()) -> str:
    """A log with one run, in ASCII. `passed`: what to say of rows that pass without a score."""
    kinds = list(RULES)
    driver = {
        "name": "geofilter",
        "version": str(library_versions(["geofilter"])["geofilter"] or "unknown"),
        "rules": [
            {
                "id": kind,
                "shortDescription": {"text": RULES[kind]},
                "defaultConfiguration": {"level": "error"},
            }
            for kind in kinds
        ],
    }
    ordered = findings
    if len(findings) > SHOWN_RESULTS:
        ordered = sorted(findings, key=_by_harm)[:MAX_RESULTS]
    results = [_result(finding, kinds.index(finding.kind)) for finding in ordered]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    notes: list[dict[str, object]] = [
        {"message": {"text": _text(line)}} for line in limit_notes(len(findings))
    ]
    notes += [
        {"message": _message(finding), "locations": [_location(finding)]} for finding in passed
    ]
    if notes:
        warnings = [{"level": "warning", **note} for note in notes]
        run["invocations"] = [{"executionSuccessful": True, "toolExecutionNotifications": warnings}]
    log = {"version": "2.1.0", "$schema": _SCHEMA, "runs": [run]}
    return json.dumps(log, indent=1) + "\n"


def limit_notes(count: int) -> list[str]:
    """What to say of a log that was to hold `count` findings: what a code host leaves out."""
    if count <= SHOWN_RESULTS:
        return []
    shown = f"GitHub shows the first {SHOWN_RESULTS:,}, the worst"
    if count <= MAX_RESULTS:
        return [f"{shown}, of {count:,} findings; --format text writes all of them"]
    return [
        f"the log holds the worst {MAX_RESULTS:,} of {count:,} findings, for GitHub rejects more, "
        f"and {shown}; --format text writes all of them"
    ]


def _by_harm(finding: Finding) -> tuple[int, float]:
    score = -math.inf if finding.score is None else finding.score
    return _WORST_FIRST.index(finding.kind), -score


def _result(finding: Finding, rule: int) -> dict[str, object]:
    return {
        "ruleId": finding.kind,
        "ruleIndex": rule,
        "level": "error",
        "message": _message(finding),
        "locations": [_location(finding)],
    }


def _message(finding: Finding) -> dict[str, str]:
    return {"text": _text(inert(finding.text_at_line))}


def _location(finding: Finding) -> dict[str, object]:
    location: dict[str, object] = {"artifactLocation": {"uri": _uri(finding.file)}}
    if finding.line is not None:
        location["region"] = {"startLine": finding.line}
    return {"physicalLocation": location}


def _text(text: str) -> str:
    """A plain text message: braces are doubled (SARIF 3.11.5), and nothing is a link (3.11.6)."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _uri(path: str) -> str:
    """A path as a URI reference; a colon or // in front could pass for a scheme or a host."""
    return re.sub("^//+", "/", quote(os.fsencode(posix(path)), safe="/"))


def posix(path: str) -> str:
    """The path with slashes, as servers spell it."""
    return path.replace(os.sep, "/")
