"""How findings are written: as text, for GitHub, as SARIF or JUnit.

A finding may hold what a hostile row or file name holds. In every format it is text and
nothing else: one line, no escape sequence, no command of a build server, no link, no markup.
"""

import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from geofilter.gate.findings import RULES, Finding
from geofilter.support.display import inert
from geofilter.support.manifest import library_versions

Format = Literal["text", "github", "sarif", "junit"]

_XML_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def render(
    findings: Sequence[Finding], files: Sequence[str], style: Format, *, judged: bool = True
) -> str:
    """The findings as one text; nothing for `text` and `github` where there are none.

    `files` are all that were to be checked: a JUnit report names those without findings
    too, as passed, or as skipped where their rows were not `judged`.
    """
    if style == "sarif":
        return _sarif(findings)
    if style == "junit":
        return _junit(findings, files, judged)
    write = _github_line if style == "github" else _text_line
    return "".join(write(finding) + "\n" for finding in findings)


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
    properties = {"file": inert(_posix(finding.file))}
    if finding.line is not None:
        properties["line"] = str(finding.line)
    properties["title"] = f"geofilter: {finding.kind}"
    listed = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    return f"::error {listed}::{_data(inert(finding.text_at_line))}"


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
    if finding.line is not None:
        location["region"] = {"startLine": finding.line}
    return {
        "ruleId": finding.kind,
        "ruleIndex": rule,
        "level": "error",
        "message": {"text": _sarif_text(inert(finding.text_at_line))},
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
