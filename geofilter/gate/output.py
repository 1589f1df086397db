"""How findings are written: as text, for GitHub, as SARIF or JUnit.

A finding may hold what a hostile row or file name holds. In every format it is text and
nothing else: one line, no escape sequence, no command of a build server, no link, no markup.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal
from urllib.parse import quote
from xml.sax.saxutils import escape as xml_text
from xml.sax.saxutils import quoteattr

from geofilter.gate.findings import RULES, Finding
from geofilter.support.display import escape
from geofilter.support.manifest import library_versions

Format = Literal["text", "github", "sarif", "junit"]

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def render(
    findings: Sequence[Finding], files: Sequence[str], style: Format, *, judged: bool = True
) -> str:
    """The findings as one text; nothing for `text` and `github` where there are none.

    `files` are all that were to be looked at: a JUnit report names those without findings
    too, as passed, or as skipped where their rows were not `judged`.
    """
    if style == "sarif":
        return _sarif(findings)
    if style == "junit":
        return _junit(findings, files, judged)
    write = _github_line if style == "github" else _text_line
    return "".join(write(finding) + "\n" for finding in findings)


def as_seen_from(base: str, findings: Iterable[Finding]) -> list[Finding]:
    """The findings with their files relative to the folder `base`, whichever is the current one.

    What is no file on this disk (`hf://...`) stays as it is. Their places for people do, too.
    """
    return [replace(finding, file=_from(base, finding.file)) for finding in findings]


def _from(base: str, file: str) -> str:
    if not os.path.exists(file):
        return file
    folder, name = os.path.split(os.path.abspath(file))
    return os.path.relpath(os.path.join(os.path.realpath(folder), name), os.path.realpath(base))


def inert(text: str) -> str:
    """One line of visible characters that no build server takes for a command.

    GitHub, Azure and TeamCity look for `##[`, `##vso[` and `##teamcity[` anywhere in a line.
    """
    return escape(text, limit=None).replace("##", "#\\x23")


def _text_line(finding: Finding) -> str:
    line = f"{inert(finding.place)}: {inert(finding.message)}"
    # GitHub takes a line that begins so for a command.
    return f"./{line}" if line.lstrip().startswith("::") else line


def _github_line(finding: Finding) -> str:
    """A workflow command; GitHub shows it at the line in the pull request."""
    properties = {"file": inert(_posix(finding.file))}
    if finding.line is not None:
        properties["line"] = str(finding.line)
    properties["title"] = f"geofilter: {finding.kind}"
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    message = finding.message if finding.line else f"{finding.place}: {finding.message}"
    return f"::error {listed}::{_data(inert(message))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _posix(path: str) -> str:
    return path.replace(os.sep, "/")


def _sarif(findings: Sequence[Finding]) -> str:
    """A SARIF 2.1.0 log with one run, in ASCII."""
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
    results = [_sarif_result(finding, kinds.index(finding.kind)) for finding in findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    log = {"version": "2.1.0", "$schema": _SCHEMA, "runs": [run]}
    return json.dumps(log, indent=1) + "\n"


def _sarif_result(finding: Finding, rule: int) -> dict[str, object]:
    location: dict[str, object] = {"artifactLocation": {"uri": _uri(finding.file)}}
    message = finding.message
    if finding.line is not None:
        location["region"] = {"startLine": finding.line}
    else:
        message = f"{finding.place}: {message}"
    return {
        "ruleId": finding.kind,
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": _sarif_text(inert(message))},
        "locations": [{"physicalLocation": location}],
    }


def _sarif_text(text: str) -> str:
    """A plain text message: braces are doubled (SARIF 3.11.5), and nothing is a link (3.11.6)."""
    return text.replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _uri(path: str) -> str:
    """A path as a URI reference; a colon or // in front could pass for a scheme or a host."""
    return re.sub("^//+", "/", quote(os.fsencode(_posix(path)), safe="/"))


# What XML 1.0 does not allow, even as a reference; `inert` has escaped most of it already.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _junit(findings: Sequence[Finding], files: Sequence[str], judged: bool) -> str:
    """A JUnit report in ASCII: a suite with a test per finding, and one per file without any."""
    refused = {finding.file for finding in findings}
    others = [file for file in files if file not in refused]
    count = len(findings) + len(others)
    skipped = 0 if judged else len(others)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites tests="{count}" failures="{len(findings)}">',
        f'<testsuite name="geofilter" tests="{count}" failures="{len(findings)}" errors="0" '
        f'skipped="{skipped}">',
        *_junit_failures(findings),
        *(_junit_other(file, judged) for file in others),
        "</testsuite>",
        "</testsuites>",
    ]
    # Right whatever the encoding that it is written in: the report states one.
    return ("\n".join(lines) + "\n").encode("ascii", "xmlcharrefreplace").decode("ascii")


def _junit_failures(findings: Iterable[Finding]) -> Iterable[str]:
    for finding in findings:
        text = f"{finding.place}: {finding.message}"
        yield (
            f"<testcase classname={_attribute(finding.file)} name={_attribute(finding.place)}>"
            f"<failure type={_attribute(finding.kind)} message={_attribute(finding.message)}>"
            f"{xml_text(_xml(text))}</failure></testcase>"
        )


def _junit_other(file: str, judged: bool) -> str:
    case = f"<testcase classname={_attribute(file)} name={_attribute(file)}"
    if judged:
        return f"{case}/>"
    return f'{case}><skipped message="the lock has to fit first"/></testcase>'


def _attribute(text: str) -> str:
    return quoteattr(_xml(text))


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", inert(text))
