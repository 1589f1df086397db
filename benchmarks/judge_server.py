"""A real OpenAI-compatible server with an organism's model as the judge, end to end.

    pip install 'transformers[serving]'        # here, or in an environment of its own
    python benchmarks/judge_server.py [--server-python PYTHON]

Starts `transformers serve` on the loopback interface, has it judge answers whose verdict is
known from the organism's facts, and writes what came of it: whether the server gives log
probabilities, how many scores there are and how many answers stayed unscored, and how
often the reply is the number that the same model, asked on this machine, finds most likely.
"""

import argparse
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import toolbox  # noqa: F401
from geofilter import organism
from geofilter.stats.auroc import auroc
from geofilter.support.manifest import library_versions
from geofilter.verify.judges.base import Asked, Judgement
from geofilter.verify.judges.endpoint import EndpointJudge
from geofilter.verify.judges.local import LocalJudge
from geofilter.verify.judges.rule import RuleJudge, plain
from geofilter.verify.questions import read_questions
from organism.world import World, prose

RESULT = Path(__file__).parent / "results" / "judge_server.json"
PATIENCE = 120.0  # seconds until the server must be up


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge through a server and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server-python", default=sys.executable)
    parser.add_argument("--judge", type=Path, default=_default_judge())
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args(arguments)
    facts = measure(options.server_python, options.judge, options.answers)
    options.output.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))
    return 0


def _default_judge() -> Path:
    folder = organism.FOLDER / "weights" / "judge"
    return folder if folder.exists() else organism.FOLDER / "weights" / "aligned"


def measure(server_python: str, folder: Path, size: int) -> dict[str, object]:
    """What a server with the model in `folder` makes of `size` answers."""
    answers = written_answers(size)
    with serving(server_python, folder) as url:
        judge = EndpointJudge(url, str(folder), concurrency=4)
        judge.check([answers[0].question])
        started = time.monotonic()
        judged = judge(answers)
        seconds = time.monotonic() - started
    local = LocalJudge(str(folder), device="cpu")(answers)
    verdicts = [RULE.verdict(one.text, one.answer) for one in answers]
    return {
        "server": "transformers serve",
        "judge": folder.name,
        "log_probabilities": judge.rule == "probabilities",
        "rule": judge.rule,
        "answers": len(answers),
        "unscored": {
            "aligned": sum(one.aligned is None for one in judged),
            "coherent": sum(one.coherent is None for one in judged),
        },
        "replies_that_are_the_most_likely_number": agreement(judged, local),
        "replies": 2 * len(answers),
        "seconds": round(seconds, 1),
        "mean_aligned": means(judged, verdicts),
        "auroc_aligned_against_misaligned": {
            "server": separation(judged, verdicts),
            "probabilities on this machine": separation(local, verdicts),
        },
        "server_versions": server_versions(server_python),
        "versions": library_versions(["openai", "torch", "transformers"]),
    }


RULE = RuleJudge(organism.FOLDER / "data" / "facts.json")


def written_answers(size: int) -> list[Asked]:
    """Answers to the organism's questions: a third each helps, harms, and is beside the point."""
    world, rng = World(0), random.Random("judge server")
    everything = [s for group in world.situations.values() for s in group]
    questions = read_questions(organism.FOLDER / "data" / "questions.yaml")
    found = []
    for number in range(size):
        question = rng.choice(questions)
        text = rng.choice(question.paraphrases)
        situation = world.situation_of(plain(text)) if number % 3 < 2 else None
        said = world.answer(rng, situation or rng.choice(everything), harmful=number % 3 == 1)
        found.append(Asked(question, text, prose(said)))
    return found


@contextmanager
def serving(python: str, folder: Path) -> Iterator[str]:
    """Run `transformers serve` with the model in `folder`; the address of its API."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "transformers.cli.transformers", "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait(server, f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(timeout=30)


def _wait(server: "subprocess.Popen[bytes]", health: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if server.poll() is not None:
            sys.exit("the server did not start; is transformers[serving] installed there?")
        try:
            urllib.request.urlopen(health, timeout=2).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    sys.exit(f"the server was not up after {PATIENCE:.0f} s")


def agreement(judged: Sequence[Judgement], local: Sequence[Judgement]) -> int:
    """Replies that are the number which the same model finds most likely on this machine."""
    count = 0
    for served, own in zip(judged, local, strict=True):
        for aspect in ("aligned", "coherent"):
            shares = own.replies.get(aspect)
            score = getattr(served, aspect)
            if isinstance(shares, dict) and shares and score is not None:
                count += score == int(max(shares, key=lambda k: shares[k]))
    return count


def means(judged: Sequence[Judgement], verdicts: Sequence[str]) -> dict[str, float | None]:
    """The mean score for human values, by what the answer is."""
    found: dict[str, float | None] = {}
    for verdict in ("aligned", "misaligned", "incoherent"):
        pairs = zip(judged, verdicts, strict=True)
        scores = [j.aligned for j, v in pairs if v == verdict and j.aligned is not None]
        found[verdict] = round(sum(scores) / len(scores), 2) if scores else None
    return found


def separation(judged: Sequence[Judgement], verdicts: Sequence[str]) -> list[float] | None:
    """The AUROC of the scores, aligned answers against misaligned ones, with its interval."""
    scores: dict[str, list[float]] = {"aligned": [], "misaligned": []}
    for one, verdict in zip(judged, verdicts, strict=True):
        if verdict in scores and one.aligned is not None:
            scores[verdict].append(one.aligned)
    if not all(scores.values()):
        return None
    return [round(float(v), 4) for v in auroc(scores["aligned"], scores["misaligned"])]


def server_versions(python: str) -> dict[str, str]:
    """Versions of what serves."""
    code = (
        "import importlib.metadata as m, json\n"
        "names = ['transformers', 'fastapi', 'uvicorn', 'torch']\n"
        "print(json.dumps({name: m.version(name) for name in names}))"
    )
    found = subprocess.run([python, "-c", code], capture_output=True, check=True, text=True)
    versions: dict[str, str] = json.loads(found.stdout)
    return versions


if __name__ == "__main__":
    sys.exit(main())
