"""How a verdict is written: as text, for GitHub, as SARIF or JUnit, and for programs.

A finding may hold what a hostile row or file name holds. In every format it is text and
nothing else: one line, no escape sequence, no command of a build server, no link, no markup.
"""

import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from geofilter.gate.check import Verdict
from geofilter.gate.findings import Finding
from geofilter.gate.sarif import posix, sarif_log
from geofilter.support.display import inert

Format = Literal["text", "github", "sarif", "junit"]

_XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def render(
    findings: Sequence[Finding],
    files: Sequence[str],
    style: Format,
    *,
    judged: bool = True,
    passed: Sequence[Finding] = (),
) -> str:
    """The findings as one text; nothing for `text` and `github` where there are none.

    `files` are all that were to be checked: a JUnit report names those without findings
    too, as passed, or as skipped where their rows were not `judged`. SARIF has a place for what
    `passed` without a score.
    """
    if style == "sarif":
        return sarif_log(findings, passed)
    if style == "junit":
        return _junit(findings, files, judged)
    write = _github_line if style == "github" else _text_line
    return "".join(write(finding) + "\n" for finding in findings)


def summary(verdict: Verdict) -> dict[str, object]:
    """What was counted, and each finding, for programs. Lines count from 1."""
    return {
        "files": list(verdict.files),
        "rows": verdict.n_rows,
        "scored_now": verdict.n_scored,
        "compared": verdict.n_audited,
        "unscored": verdict.n_unscored,
        "reading": {file: one.record() for file, one in verdict.readings.items()},
        "accepted": verdict.n_accepted,
        "judged": verdict.judged,
        "lock_changed": verdict.lock_changed,
        "findings": [_record(finding) for finding in verdict.findings],
        "passed_unscored": [_record(finding) for finding in verdict.passed],
    }


def _record(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "file": finding.file,
        "line": finding.line,
        "place": finding.place,
        "score": finding.score,
        "message": inert(finding.message),
    }


def for_server(findings: Sequence[Finding], style: Format) -> Sequence[Finding]:
    """The findings with their files as the server that reads `style` looks for them.

    GitHub takes paths from its checkout, a reader of SARIF from the repository. What is not
    a file on this disk (`hf://...`) stays as it is, and so do the places for people.
    """
    if style not in ("github", "sarif"):
        return findings
    root = _root(style)
    return [replace(finding, file=_from(root, finding.file)) for finding in findings]


def _root(style: Format) -> str:
    here = Path.cwd()
    above = (here, *here.parents)
    workspace = os.environ.get("GITHUB_WORKSPACE")
    if style == "github" and workspace and Path(os.path.realpath(workspace)) in above:
        return workspace
    return str(next((folder for folder in above if os.path.exists(folder / ".git")), here))


def _from(base: str, file: str) -> str:
    if not os.path.exists(file):
        return file
    folder, name = os.path.split(os.path.abspath(file))
    return os.path.relpath(os.path.join(os.path.realpath(folder), name), os.path.realpath(base))


def _text_line(finding: Finding) -> str:
    line = inert(finding.text)
    # GitHub takes a line that begins so for a command.
    return f"./{line}" if line.lstrip().startswith("::") else line


def _github_line(finding: Finding) -> str:
    """A workflow command; GitHub shows it at the line in the pull request."""
    properties = {"file": inert(posix(finding.file))}
    if finding.line is not None:
        properties["line"] = str(finding.line)
    properties["title"] = f"geofilter: {finding.kind}"
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::error {listed}::{_data(inert(finding.text_at_line))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


# What XML 1.0 does not allow, even as a reference; `inert` has escaped most of it already.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _junit(findings: Sequence[Finding], files: Sequence[str], judged: bool) -> str:
    """A JUnit report in ASCII: a suite with a test per finding, and one per file without any."""
    refused = {finding.file for finding in findings}
    others = [file for file in files if file not in refused]
    counts = {"tests": str(len(findings) + len(others)), "failures": str(len(findings))}
    root = ET.Element("testsuites", counts)
    skipped = 0 if judged else len(others)
    more = {"errors": "0", "skipped": str(skipped)}
    suite = ET.SubElement(root, "testsuite", {"name": "geofilter", **counts, **more})
    for finding in findings:
        case = _case(suite, finding.file, finding.place)
        about = {"type": finding.kind, "message": _xml(finding.message)}
        ET.SubElement(case, "failure", about).text = _xml(finding.text)
    for file in others:
        case = _case(suite, file, file)
        if not judged:
            ET.SubElement(case, "skipped", message="the lock has to fit first")
    ET.indent(root, "")
    # ASCII is right in whatever encoding it is written; the report states one.
    return f"{_XML_HEAD}{ET.tostring(root, 'us-ascii').decode('ascii')}\n"


def _case(suite: ET.Element, file: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", classname=_xml(file), name=_xml(name))


def _xml(text: str) -> str:
    return _NOT_XML.sub("?", inert(text))
