"""What the gate's command writes is read rightly by whatever reads it, wherever it runs."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from geofilter.gate import check
from geofilter.gate.output import Format
from geofilter.gate.policy import Policy
from helpers.cli_folder import Geofilter
from helpers.finding_readers import assert_inert, assert_visible, places
from helpers.gate_folder import StubScorer, make_folder, record, write

STYLES: tuple[Format, ...] = ("text", "github", "sarif", "junit")


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("workspace", ["unset", "elsewhere", "above"])
@pytest.mark.parametrize("style", ["github", "sarif"])
def test_a_server_finds_the_files_wherever_the_check_ran(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    geofilter: Geofilter,
    style: Format,
    workspace: str,
    absolute: bool,
) -> None:
    """It takes paths from its checkout, or from the repository that the file lies in."""
    inner = here / "repository" / "sets" / "one"
    inner.mkdir(parents=True)
    (here / "repository" / ".git").mkdir()
    (here / "link").symlink_to(here)
    monkeypatch.delenv("GITHUB_WORKSPACE", raising=False)
    if workspace != "unset":
        monkeypatch.setenv(
            "GITHUB_WORKSPACE", "/other" if workspace == "elsewhere" else f"{here}/link"
        )
    monkeypatch.chdir(inner)
    policy = make_folder(inner)
    file = write(Path("data.jsonl"), [{"prompt": "q", "response": "answer 0.9"}])
    check.check([file], policy, load=StubScorer(policy).load)
    root = "repository/" if (style, workspace) == ("github", "above") else ""

    asked = str(inner / file) if absolute else file
    done = geofilter("check", "--no-model", "--format", style, asked)
    assert places(done.out, style) == [(f"{root}sets/one/data.jsonl", 1)]
    # The lock is a file, too.
    (inner / "toxic.pack").write_bytes(b"others")
    done = geofilter("check", "--no-model", "--format", style, asked)
    assert places(done.out, style) == [(f"{root}sets/one/geofilter.lock", 2)]
    # What a person reads is relative to where they are.
    assert geofilter("check", "--no-model", asked).out.startswith("geofilter.lock:2: ")


@pytest.mark.parametrize("name", ["##vso[x]y", "##[group]", "::error::x", "a\n::error::x"])
def test_errors_and_notes_are_no_commands_either(
    here: Path, monkeypatch: pytest.MonkeyPatch, geofilter: Geofilter, name: str
) -> None:
    """Standard error is read by a build server as standard output is."""

    class Noted(StubScorer):
        notes = (f"{name} noted",)

    monkeypatch.setattr(
        "geofilter.gate.scorer.load_scorer", lambda policy, rows, device: Noted(policy)
    )
    make_folder(here, f"lock = {json.dumps(name)}\n")
    write(Path("data.jsonl"), [{"prompt": "q", "response": "answer 0.1"}])
    noted = geofilter("check", "data.jsonl")
    assert noted.code == 0
    told = [noted.err]
    for words in (["data.jsonl", f"{name}.jsonl"], ["--format", name], [f"--{name}"]):
        wrong = geofilter("check", *words)
        assert (wrong.code, wrong.out) == (2, "")
        told.append(wrong.err)
    make_folder(here).path.write_text(f"[tool.geofilter]\n{json.dumps(name)} = 1\n")
    told.append(geofilter("check", "data.jsonl").err)

    word = re.findall("[a-z]+", name)[-1]
    for text in told:
        assert word in text
        assert_inert(text)
        assert_visible(text.replace("\n", ""))
        assert all(line.startswith("geofilter: ") for line in text.splitlines())
    assert [text.count("\n") for text in told] == [4, 1, 1, 1, 1]


@pytest.mark.parametrize("style", STYLES)
def test_no_finding_is_lost_where_standard_output_lacks_a_character(
    here: Path, style: Format
) -> None:
    make_folder(here)
    file = write(Path("ä€.jsonl"), [{"prompt": "q", "response": "answer 0.1"}])
    done = subprocess.run(
        [sys.executable, "-m", "geofilter", "check", "--no-model", "--format", style, file],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 2)
    if style == "junit":
        (case,) = ET.fromstring(done.stdout).findall("./testsuite/testcase")
        assert case.get("classname") == file
    elif style == "sarif":
        assert "%C3%A4%E2%82%AC.jsonl" in done.stdout.decode("ascii")
    else:
        assert "ä\\u20ac.jsonl" in done.stdout.decode("latin-1")


def test_a_file_that_nobody_looked_at_is_no_passed_test(
    policy: Policy, locked: str, monkeypatch: pytest.MonkeyPatch, geofilter: Geofilter
) -> None:
    other = write(Path("other.jsonl"), [record(0, 0.0)])
    changed = write(Path("new.jsonl"), [record(999, 0.0)])

    def states(*words: str) -> dict[str | None, str]:
        done = geofilter("check", "--format", "junit", locked, other, *words)
        suite = ET.fromstring(done.out)[0]
        found = {case.get("name"): case[0].tag if len(case) else "passed" for case in suite}
        assert suite.get("skipped") == str(list(found.values()).count("skipped"))
        return found

    assert states("--no-model")[other] == "passed"
    assert states("--no-model")[f"{locked}:80"] == "failure"
    scorers = {"stale": StubScorer(policy, model="n"), "forged": StubScorer(policy, lies=0.1)}
    for scorer in scorers.values():
        monkeypatch.setattr(check, "_load", lambda policy, device, rows, made=scorer: made)
        assert states(changed)[changed] == "skipped"
    Path("toxic.pack").write_bytes(b"others")
    wanted = {"geofilter.lock:2": "failure", locked: "skipped", other: "skipped"}
    assert states("--no-model") == wanted
