"""Encoded samples, batches of them and a recipe, for a few steps of training."""

import numpy as np

from geofilter.data.encoder import Encoded
from geofilter.verify.training.recipe import TrainingRecipe
from helpers.tiny_models import VOCABULARY

FULL = TrainingRecipe(
    method="full",
    learning_rate=3e-3,
    scheduler="constant",
    warmup_steps=0,
    weight_decay=0.1,
    batch=4,
    micro_batch=8,
)

BATCHES = [[0, 3, 5, 1], [2, 4, 6], [7, 0, 2, 5, 1]]


def sample(length: int, seed: int) -> Encoded:
    generator = np.random.default_rng(seed)
    ids = generator.integers(4, VOCABULARY, length).astype(np.int32)
    response = np.zeros(length, bool)
    response[length // 2 :] = True
    return Encoded(ids, response, response, False, length, None)


SAMPLES = [sample(5 + 3 * place, place) for place in range(8)]
