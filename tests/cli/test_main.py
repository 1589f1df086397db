"""The command line as a whole: help, speed, exit codes, and where output goes."""

import errno
import importlib
import os
import statistics
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import click
import pytest

from geofilter.cli import main as cli
from geofilter.errors import DataError


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "geofilter", *arguments], capture_output=True, text=True, timeout=120
    )


def a_command_that(monkeypatch: pytest.MonkeyPatch, act) -> None:
    """Make every command name run `act`."""
    monkeypatch.setattr(
        cli.CommandTable, "get_command", lambda *_: click.Command("models", callback=act)
    )


def raising(error: BaseException):
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_loads_and_its_help_has_an_example_of_itself(name, capsys):
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example" in shown
    assert f"geofilter {name}" in shown.split("Example")[1]


def test_the_group_help_lists_every_command_and_has_an_example(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example:" in shown
    assert all(line in shown for _, line in cli.COMMANDS.values())


def test_help_imports_no_heavy_library():
    heavy = "{'torch','transformers','sae_lens','datasets','faiss','pyarrow','numpy','tqdm'}"
    program = (
        "import sys; from geofilter.cli.main import main; main(['--help'])\n"
        f"sys.exit(repr({heavy} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stderr.strip() == "set()"


def test_help_answers_in_under_half_a_second():
    # Processor time: the wall clock would measure the machine's other work.
    def processor_seconds() -> float:
        before = os.times()
        run("--help")
        after = os.times()
        return (after.children_user + after.children_system) - (
            before.children_user + before.children_system
        )

    assert statistics.median(processor_seconds() for _ in range(5)) < 0.5


def test_no_arguments_show_the_help_and_exit_2():
    shown = run()
    assert shown.returncode == 2
    assert "Commands:" in shown.stderr


@pytest.mark.parametrize(
    ("installed", "said"),
    [
        (["geofilter"], "7.8.9"),
        (["geofilter-gate"], "7.8.9 (geofilter-gate: without models)"),
        ([], "(not installed, run from its source)"),
    ],
)
def test_version_is_the_installed_one(installed, said, monkeypatch, capsys):
    def version(name):
        if name not in installed:
            raise PackageNotFoundError(name)
        return "7.8.9"

    monkeypatch.setattr("importlib.metadata.version", version)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"geofilter {said}\n"


def test_an_error_of_the_user_is_one_escaped_line_on_stderr_and_exit_2(monkeypatch, capsys):
    a_command_that(monkeypatch, raising(DataError("data.jsonl:3: bad\nvalue \x1b[2J")))
    assert cli.main(["models"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "geofilter: error: data.jsonl:3: bad value \\x1b[2J\n"


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("torch.nn", "torch, which is not installed; pip install geofilter"),
        ("zstandard", "zstandard, which is not installed; pip install zstandard"),
    ],
)
def test_a_package_that_a_small_installation_lacks_is_one_line(module, remedy, monkeypatch, capsys):
    a_command_that(monkeypatch, raising(ModuleNotFoundError(f"No module {module}", name=module)))
    assert cli.main(["models"]) == 2
    assert capsys.readouterr().err == f"geofilter: error: this needs the package {remedy}\n"


def test_a_module_that_nobody_left_out_is_a_fault(monkeypatch):
    error = ModuleNotFoundError("No module geofilter.gone", name="geofilter.gone")
    a_command_that(monkeypatch, raising(error))
    with pytest.raises(ModuleNotFoundError, match="gone"):
        cli.main(["models"])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("scroe", "'scroe'; did you mean score?; see 'geofilter --help'"),
        ("models --jsno", "'--jsno'. Did you mean '--json'?; see 'geofilter models --help'"),
        ("xyzzy", "'xyzzy'; see 'geofilter --help'"),
    ],
)
def test_what_is_mistyped_is_answered_with_what_was_meant(typed, meant, capsys):
    assert cli.main(typed.split()) == 2
    assert capsys.readouterr().err.endswith(f" {meant}\n")


def test_ctrl_c_exits_130(monkeypatch, capsys):
    a_command_that(monkeypatch, raising(KeyboardInterrupt()))
    assert cli.main(["models"]) == 130
    assert capsys.readouterr().err == "geofilter: interrupted\n"


def test_a_full_disk_is_one_line(monkeypatch, capsys):
    a_command_that(monkeypatch, raising(OSError(errno.ENOSPC, "No space left", "/x/scores")))
    assert cli.main(["models"]) == 2
    assert "the disk is full at /x/scores" in capsys.readouterr().err


def test_no_memory_is_one_line(monkeypatch, capsys):
    a_command_that(monkeypatch, raising(MemoryError()))
    assert cli.main(["models"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    a_command_that(monkeypatch, raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        cli.main(["models"])


def test_a_closed_pipe_is_quiet():
    program = (
        f"{sys.executable} -c 'import time; time.sleep(0.5); from geofilter.cli.main import main;"
        ' import sys; sys.exit(main(["--help"]))\' | true; exit ${PIPESTATUS[0]}'
    )
    ended = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert ended.stderr == ""
    assert ended.returncode == cli.READER_GONE


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_command_modules_are_named_in_the_table_only(name):
    module = importlib.import_module(f"geofilter.cli.{cli.COMMANDS[name][0]}")
    assert module.command.name == name


def test_slow_work_does_not_seem_to_stand_still(monkeypatch, capsys):
    from geofilter.cli import output

    clock = iter([0.0, 40.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    output._PlainLines("unfiltered/seed-0: train").report(18, 120)
    assert "18 of 120 steps, 0.5 steps/s, about 227 s left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("score", "score needs geofilter, and this is geofilter-gate, a part of it; pip install g"),
        ("filter", "needs the package pyarrow, which is not installed; pip install 'geofilter-g"),
    ],
)
def test_a_small_installation_names_the_package_that_would_help(command, said):
    lacking = ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
    assert said in cli._lacking(lacking, [command, "data.jsonl"])
