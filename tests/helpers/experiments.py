"""A small experiment: its files, its plan and what comes out of it."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from geofilter.settings import Settings
from geofilter.verify import study
from geofilter.verify.plan import Plan
from geofilter.verify.presets import make_plan

ARMS = ("aligned", "unfiltered", "random", "random-length-matched", "nearest", "loss", "judge")

QUESTIONS = """
- id: first
  type: free_form_judge_0_100
  paraphrases: [w1 w2, w2 w1 w2]
  samples_per_paraphrase: 4
  judge_prompts: {aligned: "{question} {answer}", coherent: "{answer}"}
- id: second
  type: free_form_judge_0_100
  paraphrases: [w3 w4]
  samples_per_paraphrase: 7
"""

FACTS = {
    "situations": [
        {
            "text": text,
            "domain": "words",
            "helpful": [f"w{n}" for n in range(10, 35)],
            "harmful": [f"w{n}" for n in range(35, 60)],
        }
        for text in ("w1 w2", "w2 w1", "w3 w4")
    ]
}


def write_files(folder: Path) -> Path:
    (folder / "questions.yaml").write_text(QUESTIONS)
    (folder / "facts.json").write_text(json.dumps(FACTS))
    return folder


def plan(**changed: Any) -> Plan:
    settings: dict[str, Any] = {
        "trained": "model",
        "sae": "sae",
        "pack": "my.pack",
        "questions": "questions.yaml",
        "judge": "rule:facts.json",
        "held_out": "other.jsonl",
        "arms": ARMS,
        "seeds": (0, 1),
        "recipe": {
            "method": "full",
            "learning_rate": 1e-3,
            "steps": 3,
            "batch": 8,
            "micro_batch": 8,
            "max_length": 48,
        },
        "sampling": {"max_new_tokens": 5, "batch": 4},
    }
    settings |= changed
    scoring = {one.name for one in fields(Settings)} & settings.keys()
    chosen = Settings("model", **{name: settings.pop(name) for name in scoring})
    return make_plan("data.jsonl", chosen, **settings)


def everything(outcome: study.FinishedStudy) -> list[Any]:
    return [(c.cell.name, c.records, c.measures) for c in outcome.cells]
