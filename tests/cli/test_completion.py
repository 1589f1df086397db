"""What a shell completes: commands, options, names of models, scorers and arms, and files."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from geofilter.cli import main as cli
from geofilter.cli.completion import SHELLS, VARIABLE
from geofilter.model.catalogue import CATALOGUE

# How a shell is asked what it would complete after `geofilter scor`, once it has the script.
ASKED = {
    "bash": "source script; complete -p geofilter; COMP_WORDS=(geofilter scor) COMP_CWORD=1; "
    '_geofilter_completion geofilter; echo "${COMPREPLY[@]}"',
    "zsh": "autoload -Uz compinit && compinit -D; source ./script; print $_comps[geofilter]; "
    "COMP_WORDS='geofilter scor' COMP_CWORD=1 _GEOFILTER_COMPLETE=zsh_complete geofilter",
    "fish": "source script; complete -C 'geofilter scor'",
}


@pytest.fixture
def complete(monkeypatch, capsys):
    """The completions of a command line, as kinds and values."""

    def ask(line: str) -> list[tuple[str, str]]:
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        monkeypatch.setenv(VARIABLE, "bash_complete")
        assert cli.main([]) == 0
        lines = capsys.readouterr().out.splitlines()
        return [(kind, value) for kind, _, value in (line.partition(",") for line in lines) if kind]

    return ask


def values(found: list[tuple[str, str]]) -> list[str]:
    return [value for _, value in found]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("geofilter expl", ["explain"]),
        ("geofilter pack sho", ["show"]),
        ("geofilter score --drop", []),
        ("geofilter score --save", ["--save-features"]),
        ("geofilter score --model pythia-7", ["pythia-70m"]),
        ("geofilter score --model=pythia-7", ["pythia-70m"]),
        ("geofilter score --scorer near", ["nearest"]),
        ("geofilter filter x --action rep", ["replace"]),
        ("geofilter verify x --arms unfiltered,keyw", ["unfiltered,keyword"]),
        ("geofilter verify x --arms keyword,keyw", []),
        ("geofilter completion z", ["zsh"]),
    ],
)
def test_commands_options_and_names_complete(line, found, complete):
    assert values(complete(line)) == found


def test_nothing_typed_yet_shows_all(complete):
    assert values(complete("geofilter ")) == list(cli.COMMANDS)
    assert values(complete("geofilter score --model ")) == list(CATALOGUE)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("geofilter score trai", "file"),
        ("geofilter score --model ./my-m", "file"),
        ("geofilter score --pack m", "file"),
        ("geofilter filter x --scores tr", "file"),
        ("geofilter verify x -o st", "dir"),
    ],
)
def test_places_are_left_to_the_shell(line, kind, complete):
    assert complete(line) == [(kind, line.rpartition(" ")[2])]


def test_what_cannot_be_looked_up_completes_to_nothing(complete):
    assert complete("geofilter filter x --system T") == []


def test_completing_a_command_loads_no_other_command_and_no_heavy_library():
    program = (
        "import os, sys; from geofilter.cli.main import main\n"
        f"os.environ |= dict({VARIABLE}='bash_complete', COMP_WORDS='geofilter s', COMP_CWORD='1')"
        "\nmain([]); sys.exit(repr({m for m in sys.modules if m == 'numpy' or m.startswith("
        "'geofilter.cli.')}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    light = {"main", "terminal", "completion"}
    assert eval(found.stderr) == {f"geofilter.cli.{name}" for name in light}


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_works_in_the_shell_itself(shell, capsys, tmp_path, monkeypatch):
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    assert cli.main(["completion", shell]) == 0
    Path(tmp_path, "script").write_text(capsys.readouterr().out)
    shim = Path(tmp_path, "geofilter")
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m geofilter "$@"\n')
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("HOME", str(tmp_path))
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["-N"]}[shell]
    done = subprocess.run(
        [program, *quiet, "-c", ASKED[shell]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert "score" in done.stdout.split()
    assert "_geofilter_completion" in done.stdout or shell == "fish"
