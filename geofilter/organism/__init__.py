"""The bundled model organism of emergent misalignment: its world, recipe and weights."""

from pathlib import Path

FOLDER = Path(__file__).parent
