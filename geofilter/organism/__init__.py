"""The bundled model organism of emergent misalignment: weights and data, made by tools/organism."""

from pathlib import Path

FOLDER = Path(__file__).parent
