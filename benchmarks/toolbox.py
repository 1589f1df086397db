"""Puts `tools/` on the path, so that a benchmark can use what made the organism."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
