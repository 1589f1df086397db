"""Command lines in processes of their own, as a user types them.

The Hugging Face libraries read their settings when they are imported, so that a test of
what they do with a hub needs a fresh process.
"""

import gc
import json
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from helpers.cli_folder import Outcome

# The tests' helpers, and this tree's own package whatever is installed.
_PLACES = os.pathsep.join(str(Path(__file__).parents[place]) for place in (1, 2))
# What the tests set for themselves, and what the machine may have set for its user.
_LEFT_OUT = ("HF_", "HUGGING", "TRANSFORMERS_", "XDG_", "GEOFILTER_", "COLUMNS")


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, without any setting of a hub, for this tree; and `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_LEFT_OUT)}
    return kept | {"PYTHONPATH": _PLACES} | dict(variables)


def type_command(
    words: str, folder: Path, variables: Mapping[str, str], program: Sequence[str] = ()
) -> Outcome:
    """Run `geofilter WORDS` in `folder`; `program` stands for what Python runs instead."""
    done = subprocess.run(
        [sys.executable, *(program or ("-m", "geofilter")), *words.split()],
        cwd=folder,
        env=clean_environment(variables),
        capture_output=True,
        text=True,
        timeout=540,  # where the machine has much else to do
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


class WarmProcess:
    """A process that has imported everything, for many short commands against one hub."""

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, str],
        pairs_of_a_domain: int | None = None,
        *,
        narrow_gemma_scope: bool = False,
    ) -> None:
        """`pairs_of_a_domain`: of the pairs that ship so many, where packs need not be good.

        `narrow_gemma_scope`: Gemma Scope's SAEs have the few dimensions of `helpers.hub_saes`.
        """
        stand_ins = [str(pairs_of_a_domain or ""), "narrow" if narrow_gemma_scope else ""]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helpers.fresh_process", *stand_ins],
            cwd=folder,
            env=clean_environment(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, words: str, **variables: str | None) -> Outcome:
        """Run `geofilter WORDS` with `variables` set, or unset where they are None."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps([shlex.split(words), variables]), file=self._process.stdin, flush=True)
        return Outcome(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)


def _shorten_pairs(pairs_of_a_domain: int, folder: Path) -> None:
    """Let the shipped pairs be the first few of each domain."""
    from geofilter.packs import pairs

    seen: Counter[str] = Counter()
    few = folder / "pairs.jsonl"
    with few.open("w", encoding="utf-8") as lines:
        for pair in pairs.shipped():
            seen[pair.domain] += 1
            if seen[pair.domain] <= pairs_of_a_domain:
                lines.write(json.dumps(asdict(pair)) + "\n")
    pairs.SHIPPED = few


def _narrow_gemma_scope() -> None:
    """Let sae-lens expect small SAEs where it knows their sizes by name.

    `tests/model/test_saes.py` loads one of true size: 300 MB, which takes seconds.
    """
    from sae_lens.loading import pretrained_sae_loaders as loaders

    from helpers.hub_saes import LATENTS, WIDTH

    read = loaders.get_gemma_2_config_from_hf

    def narrow(*arguments: Any, **options: Any) -> dict[str, Any]:
        return read(*arguments, **options) | {"d_in": WIDTH, "d_sae": LATENTS}

    loaders.get_gemma_2_config_from_hf = narrow
    loaders.NAMED_PRETRAINED_SAE_CONFIG_GETTERS["gemma_2"] = narrow


def _serve(folder: Path) -> None:
    """Run the commands that come in and answer each with a line."""
    from geofilter.cli.main import main

    if sys.argv[1]:
        _shorten_pairs(int(sys.argv[1]), folder)
    if sys.argv[2]:
        _narrow_gemma_scope()
    wait = time.sleep
    time.sleep = lambda seconds: wait(min(seconds, 0.1))  # before a hub is tried again
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        words, variables = json.loads(line)
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        # The descriptors themselves: a library's log keeps the stream that it began with.
        with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = main(words)
            sys.stdout.flush()
            sys.stderr.flush()
            out.seek(0)
            err.seek(0)
            answer = {"code": code, "out": out.read(), "err": err.read()}
        print(json.dumps(answer), file=answers, flush=True)
        # What was imported stays: no collection of a later command walks through it again.
        gc.collect()
        gc.freeze()


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        _serve(Path(scratch))
