"""Code blocks of a page: found as CommonMark says, and run one after another as a reader would.

Shell commands of geofilter run in this process, other programs in a shell; Python blocks share
one namespace per page. A block of `text` right after another is what that one prints.
Nothing here knows which pages there are or what is replaced on them.
"""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from helpers.cli_folder import Geofilter

SHELL = ("sh", "bash", "console")
DATA: Mapping[str, Callable[[str], object]] = {
    "json": json.loads,
    "jsonl": lambda text: [json.loads(line) for line in text.splitlines()],
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
    "ini": str,
}
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_COMMENT = re.compile(r"(^|\s)#.*$")  # not within a word, as `shlex` would have it
_LEFT_OUT = ("...", "…")


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    `language` is "" where it names none; `line` is that of its first line of content;
    `follows`: nothing but empty lines lie between it and the block before.
    """

    language: str
    text: str
    line: int
    indented: bool = False
    follows: bool = False


def blocks(page: str) -> list[Block]:
    """Every code block of a page, in order."""
    found: list[Block] = []
    end, lines = 0, page.splitlines()
    for token in MarkdownIt().parse(page):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            follows = bool(found) and not any(map(str.strip, lines[end : token.map[0]]))
            end = token.map[1]
            indented = token.type == "code_block"
            language = token.info.split()[0] if token.info.strip() else ""
            found.append(
                Block(language, token.content, token.map[0] + 2 - indented, indented, follows)
            )
    return found


def commands(block: Block) -> Iterator[str]:
    """The commands of a shell block, comments and all, each in one line."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    for line in lines:
        words = " ".join(line.split())
        if words and not words.startswith("#"):
            yield words


def expected_codes(command: str) -> tuple[int, ...]:
    """0, or what a comment such as `# exit code 1` says; a tiny verification may say no."""
    stated = re.search(r"#.*exit code (\d+)", command)
    if command.startswith("geofilter verify"):
        return (0, 1)
    return (int(stated[1]) if stated else 0,)


def assert_printed(shown: str, printed: str) -> None:
    """Every line of `shown` is among the lines `printed`, in order, its numbers to some 5 %.

    A line of dots stands for lines that were left out. Spaces are not compared, since columns
    are as wide as their widest number.
    """
    rest = iter(printed.splitlines())
    for line in filter(str.strip, shown.splitlines()):
        if line.strip() in _LEFT_OUT:
            continue
        for other in rest:
            if _same(line, other):
                break
        else:
            pytest.fail(f"not printed, or not in this order: {line!r}, but:\n{printed}")


def _same(shown: str, printed: str) -> bool:
    masked = [_NUMBER.sub("0", text).split() for text in (shown, printed)]
    if masked[0] != masked[1]:
        return False
    numbers = [[float(n.replace(",", "")) for n in _NUMBER.findall(t)] for t in (shown, printed)]
    return numbers[1] == pytest.approx(numbers[0], rel=0.05, abs=0.01)


@dataclass
class Reader:
    """Does what a page says, in the current folder.

    `replaced`: words of the page -> what is run in their place. `skipped`: says why a command
    is not run, or None.
    """

    page: str
    geofilter: Geofilter
    replaced: Mapping[str, str]
    skipped: Callable[[str], str | None]
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    printed: str = ""

    def read(self, block: Block) -> None:
        where = f"{self.page}:{block.line}"
        if block.language in SHELL:
            self.printed = ""
            if "<<" in block.text:
                self._shell(block.text, where, (0,))
            else:
                for command in commands(block):
                    self._command(command, where)
        elif block.language == "python":
            source = "\n" * (block.line - 1) + self._substituted(block.text)
            with redirect_stdout(io.StringIO()) as printed:
                exec(compile(source, self.page, "exec"), self.names)
            self.printed = printed.getvalue()
        elif block.language in DATA:
            DATA[block.language](block.text)
        elif block.language == "text" and block.follows and self.printed:
            assert_printed(block.text, self.printed)

    def _substituted(self, text: str) -> str:
        for words, others in self.replaced.items():
            text = text.replace(words, others)
        return text

    def _command(self, command: str, where: str) -> None:
        if self.skipped(command):
            return
        line = self._substituted(command)
        words = shlex.split(_COMMENT.sub("", line))
        if words[0] != "geofilter" or {"|", ">", "&&", "<", ";"} & set(words):
            self._shell(line, where, expected_codes(command))
            return
        done = self.geofilter(*words[1:])
        assert done.code in expected_codes(command), f"{where}: {line}\n{done.out}{done.err}"
        self.printed += done.out + done.err

    def _shell(self, text: str, where: str, codes: tuple[int, ...]) -> None:
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-euc", self._substituted(text)],
            env={**os.environ, "PATH": programs},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode in codes, f"{where}: {text}\n{done.stdout}{done.stderr}"
        self.printed += done.stdout + done.stderr
