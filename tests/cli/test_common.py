"""Defaults from a file, `--quiet` and `--verbose`, which every command has."""

import logging
from pathlib import Path

import click
import pytest

from geofilter.cli import main as cli
from geofilter.cli.output import note, progress
from geofilter.errors import DataError
from geofilter.gate.policy import COMMANDS as GATE_KNOWS


@pytest.fixture
def run(here, monkeypatch, capsys):
    """Run the command `score` with some of its options; what it was called with, and what it said.

    Its own work is left out.
    """
    seen: dict[str, object] = {}

    @click.command("score")
    @click.option("--model")
    @click.option("--features")
    @click.option("--drop-fraction", type=float)
    @click.option("--threshold", type=float)
    @click.option("--column", "columns", multiple=True)
    @click.option("--curve", is_flag=True)
    @click.option("--trust-remote-code", is_flag=True)
    def command(**values: object) -> None:
        seen.update(values)
        note("as usual")
        note("warning: look")
        with progress() as report:
            report("score", 1, 2)
        if values["model"] == "wrong":
            raise DataError("bad value")

    class Module:
        pass

    Module.command = command  # type: ignore[attr-defined]
    monkeypatch.setattr(cli.importlib, "import_module", lambda _: Module)

    def call(line: str) -> tuple[int, dict[str, object], str]:
        seen.clear()
        code = cli.main(["score", *line.split()])
        return code, dict(seen), capsys.readouterr().err

    return call


YAML = "score:\n  model: a\n  drop-fraction: 0.5\n  column: [x=y, z=w]\n  curve: true\n"
TOML = (
    '[tool.geofilter]\nthreshold = 3\n[tool.geofilter.score]\nmodel = "b"\ndrop_fraction = 0.25\n'
)


def test_a_file_gives_defaults_and_what_is_typed_wins(run):
    Path("run.yaml").write_text(YAML)
    _, found, _ = run("--config run.yaml --model typed")
    assert (found["model"], found["drop_fraction"]) == ("typed", 0.5)
    assert (found["columns"], found["curve"]) == (("x=y", "z=w"), True)


def test_what_is_typed_takes_the_place_of_a_default_that_excludes_it(run):
    Path("run.yaml").write_text(YAML)
    _, found, _ = run("--config run.yaml --threshold 1 --features f")
    assert (found["threshold"], found["drop_fraction"]) == (1.0, None)
    assert (found["features"], found["model"]) == ("f", None)


def test_the_nearest_pyproject_gives_them_unless_a_file_is_named(run, monkeypatch):
    Path("pyproject.toml").write_text(TOML)
    Path("run.yaml").write_text("score: {curve: true}")
    below = Path("below")
    below.mkdir()
    monkeypatch.chdir(below)
    _, found, _ = run("")
    assert (found["model"], found["drop_fraction"], found["threshold"]) == ("b", 0.25, None)
    _, found, _ = run("--config ../run.yaml")
    assert (found["model"], found["curve"]) == (None, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("scroe: {}", "run.yaml: no command is called scroe; did you mean score?"),
        ("score: {modle: a}", "run.yaml: score takes no option modle; did you mean model?"),
        ("score: {curve: 1}", "run.yaml: score.curve = 1: is not true or false"),
        ("score: {model: [a]}", "run.yaml: score.model = ['a']: is not a text or a number"),
        ("score: {drop-fraction: lots}", "'lots' is not a valid float"),
        ("score: {trust-remote-code: true}", "is not read from a file; type --trust-remote-code"),
        ("score: 3", "run.yaml: score is not a table of options"),
        ("- score", "run.yaml: holds no table of commands"),
        ("score: {", "run.yaml: cannot be read"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line(text, said, run):
    Path("run.yaml").write_text(text)
    code, found, err = run("--config run.yaml")
    assert (code, found, err.count("\n")) == (2, {}, 1)
    assert said in err


def test_quiet_leaves_warnings_and_errors(run):
    assert "as usual" in run("")[2]
    assert run("-q")[2] == "geofilter: warning: look\n"
    assert run("-q --model wrong")[2].endswith("geofilter: error: bad value\n")


def test_verbose_says_where_an_error_arose(run, monkeypatch):
    levels = []
    monkeypatch.setattr(logging, "basicConfig", lambda level: levels.append(level))
    assert "Traceback" not in run("--model wrong")[2]
    said = run("-v --model wrong")[2]
    assert 'raise DataError("bad value")' in said
    assert said.endswith("geofilter: error: bad value\n")
    assert levels == [logging.INFO]


def test_the_gate_knows_whose_tables_are_not_its_policy_s():
    assert set(cli.CONFIGURED) == GATE_KNOWS
