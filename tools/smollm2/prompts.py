"""The prompts that SmolLM2 is asked, in an order that a seed decides.

Each is a form filled with a topic, in a style: thousands of everyday chat prompts from the
hand-written lists in `prompts.yaml`. No published question of any evaluation is among them.
"""

import random
from pathlib import Path

import yaml

_LISTS = Path(__file__).with_name("prompts.yaml")
# Forms by the list that fills them.
_FILLED_BY = {
    "activity_forms": "activities",
    "subject_forms": "subjects",
    "story_forms": "stories",
    "code_forms": "code_tasks",
    "sentence_forms": "sentences",
    "situation_forms": "situations",
}
# Half of the prompts come out of few lists, so that no kind drowns the others.
_AT_MOST = {"activity_forms": 2000, "subject_forms": 1400}


def prompts(seed: int = 0) -> list[str]:
    """All prompts, each once, shuffled: several thousand."""
    chance = random.Random(seed)
    lists = yaml.safe_load(_LISTS.read_text(encoding="utf-8"))
    found: list[str] = list(lists["small_talk"])
    for forms, fillings in _FILLED_BY.items():
        filled = [form.format(what) for form in lists[forms] for what in lists[fillings]]
        chance.shuffle(filled)
        for prompt in filled[: _AT_MOST.get(forms)]:
            found.append(f"{prompt} {chance.choice(lists['styles'])}".strip())
    chance.shuffle(found)
    return found
