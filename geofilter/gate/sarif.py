"""Findings as SARIF 2.1.0, no more of them than a code host takes.

GitHub rejects a log of more than 10 MB, compressed, or with more than 25,000 results in a run,
and of more than 5,000 shows those that are most severe. Ours are all errors, so above that they
stand in their order: what speaks against a lock or a whole file, then rows from the nearest to
harm on, then rows without a score. What was left out, and what passed without a score, is said
in notifications of the run.
"""

import gzip
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
# Of the compressed results; the rest of a log takes a few thousand more.
MAX_BYTES = 9_900_000
_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_KINDS = list(RULES)
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
    driver = {
        "name": "geofilter",
        "version": str(library_versions(["geofilter"])["geofilter"] or "unknown"),
        "rules": [
            {
                "id": kind,
                "shortDescription": {"text": RULES[kind]},
                "defaultConfiguration": {"level": "error"},
            }
            for kind in _KINDS
        ],
    }
    kept = fitting(findings)
    results = [_result(finding) for finding in kept]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    notes: list[dict[str, object]] = [
        {"message": {"text": _text(line)}} for line in limit_notes(len(findings), len(kept))
    ]
    notes += [
        {"message": _message(finding), "locations": [_location(finding)]} for finding in passed
    ]
    if notes:
        warnings = [{"level": "warning", **note} for note in notes]
        run["invocations"] = [{"executionSuccessful": True, "toolExecutionNotifications": warnings}]
    log = {"version": "2.1.0", "$schema": _SCHEMA, "runs": [run]}
    return json.dumps(log, indent=1) + "\n"


def fitting(findings: Sequence[Finding]) -> Sequence[Finding]:
    """As many of the findings as a code host takes; the worst first where it shows not all."""
    kept = findings
    if len(findings) > SHOWN_RESULTS:
        kept = sorted(findings, key=_by_harm)[:MAX_RESULTS]
    while not _is_small(text := json.dumps([_result(finding) for finding in kept], indent=1)):
        share = MAX_BYTES / len(gzip.compress(text.encode()))
        kept = sorted(kept, key=_by_harm)[: int(len(kept) * share * 0.9)]
    return kept


def _is_small(text: str) -> bool:
    return len(text) <= MAX_BYTES or len(gzip.compress(text.encode())) <= MAX_BYTES


def limit_notes(count: int, kept: int) -> list[str]:
    """What to say of a log that holds `kept` of `count` findings, and what is shown of them."""
    shown = f"GitHub shows the first {SHOWN_RESULTS:,}, the worst"
    everything = "--format text writes all of them"
    if kept < count:
        more = f", and {shown}" if kept > SHOWN_RESULTS else ""
        return [
            f"the log holds the worst {kept:,} of {count:,} findings, for GitHub rejects more"
            f"{more}; {everything}"
        ]
    return [f"{shown}, of {count:,} findings; {everything}"] if count > SHOWN_RESULTS else []


def _by_harm(finding: Finding) -> tuple[int, float]:
    score = -math.inf if finding.score is None else finding.score
    return _WORST_FIRST.index(finding.kind), -score


def _result(finding: Finding) -> dict[str, object]:
    return {
        "ruleId": finding.kind,
        "ruleIndex": _KINDS.index(finding.kind),
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
