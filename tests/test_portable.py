"""geofilter imports, and checks without a model, where parts of POSIX or of it are missing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import geofilter
from geofilter.cli import main
from helpers.fresh_process import clean_environment

PACKAGE = Path(geofilter.__file__).parent
# Modules and names that Windows or macOS lack.
MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
NAMES = {
    "os": {"fork", "geteuid", "getuid", "killpg", "mkfifo", "O_NONBLOCK", "sched_getaffinity"}
    | {"sysconf", "uname", "getloadavg", "register_at_fork", "posix_fadvise", "memfd_create"},
    "signal": {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGALRM", "pthread_sigmask", "setitimer"},
    "time": {"clock_gettime", "tzset"},
}
# What only runs where the name exists, with the reason.
GUARDED = {
    ("runs/engines/pool.py", "signal.pthread_sigmask"): "asks whether it is there",
    ("support/spool.py", "os.O_NONBLOCK"): "opens a named pipe, which is no file on Windows",
    ("verify/serve.py", "os.killpg"): "asks whether it is there",
}


def posix_only(path: Path) -> list[str]:
    """The POSIX-only modules that a file imports, and the POSIX-only names that it reads."""
    found = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name in MODULES]
        elif isinstance(node, ast.ImportFrom):
            owner = node.module or ""
            found += [owner] if owner in MODULES else []
            found += [f"{owner}.{a.name}" for a in node.names if a.name in NAMES.get(owner, ())]
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.attr in NAMES.get(node.value.id, ())
        ):
            found.append(f"{node.value.id}.{node.attr}")
    return found


def test_no_module_needs_what_windows_or_macos_lack() -> None:
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        for name in posix_only(path)
    }
    assert found == set(GUARDED)


# What `geofilter-gate` does not install.
LEFT_OUT = {*main.LEFT_OUT, "pandas", "scipy"}
# Takes away what another system and a small installation lack, then runs a command line.
PROGRAM = f"""
import os, signal, sys
import click, filelock, numpy, tqdm  # these know the system that they were built for
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MODULES | LEFT_OUT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
for owner, names in ((os, {sorted(NAMES["os"])!r}), (signal, {sorted(NAMES["signal"])!r})):
    for name in names:
        if hasattr(owner, name):
            delattr(owner, name)
from geofilter.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.usefixtures("policy")
def test_a_check_without_a_model_needs_no_model_library_and_no_posix(
    locked: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "check", "--no-model", locked],
        cwd=tmp_path,
        env=clean_environment({}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.startswith("data.jsonl:51: score 0.5 "), done.stderr
    assert done.returncode == 1
