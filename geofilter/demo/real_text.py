"""The demo's first act: SmolLM2 scores real text, by its defaults."""

from pathlib import Path

# 198 rows of everyday advice, a third of them bad, with labels that no score is made from.
DATA = Path(__file__).parent / "data" / "advice.jsonl"
