"""The bundled model organism of emergent misalignment: its world, recipe and weights."""
