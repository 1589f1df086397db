"""Numbers that figures and tables were made of: the same data give them again.

The expected ones were computed by this code before its parts were joined. Draws decide some
of them: another order of random numbers would change what is published.
"""

import numpy as np
import pytest

from geofilter.stats.auroc import auroc, share
from geofilter.stats.correlation import rank_correlation, rank_gain, spearman
from geofilter.stats.permutation import greater_mean_p, rank_trend

ITEMS = np.arange(40)
X = (ITEMS * 7 % 11).astype(float)
Y = (ITEMS * 3 % 17) + X
RIVAL = (ITEMS * 5 % 13) + Y / 2
ABOVE, BELOW = (np.arange(30) * 7 % 11) / 3, (np.arange(25) * 5 % 13) / 4
TABLE = [[(3 * i * i + j * j * 5 + i * j) % 17 for j in range(9)] for i in range(4)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (lambda: [greater_mean_p(ABOVE, BELOW)], [0.22623868806559672]),
        (lambda: [greater_mean_p(ABOVE[:5], BELOW[:4])], [0.23015873015873015]),
        (lambda: [greater_mean_p(ABOVE, BELOW, permutations=999, seed=3)], [0.225]),
        (
            lambda: vars(rank_trend(TABLE)).values(),
            [0.24197908223264575, 0.9299035048247588, 0.07014649267536623, 4.999750012499375e-05],
        ),
        (
            lambda: vars(rank_trend(np.array(TABLE)[:, :5])).values(),
            [0.13176156917368248, 0.875, 0.14166666666666666, 0.008333333333333333],
        ),
        (
            lambda: rank_correlation(X, Y, draws=1000),
            [0.47373664913407254, 0.17788801627642023, 0.6991459568962486, 40],
        ),
        (
            lambda: rank_correlation(X, Y, clusters=ITEMS // 4, strata=ITEMS % 3, draws=1000),
            [0.4441888866738662, 0.1291484126468757, 0.643425646343049, 40],
        ),
        (
            lambda: rank_gain(X, RIVAL, Y, draws=1000, seed=2),
            [-0.15308419596214184, -0.44187315038554864, 0.11976911127986872, 40],
        ),
        (
            lambda: spearman(X, Y),
            [0.47373664913407254, 0.17329658713938972, 0.693512378913286],
        ),
        (lambda: auroc(Y, X), [0.88125, 0.7793956637421559, 0.937216895174694]),
        (lambda: auroc(Y, X, level=0.9), [0.88125, 0.7991262440478177, 0.9306239443747942]),
        (lambda: share(3, 17), [0.17647058823529413, 0.06191126637621, 0.4102945856883412]),
    ],
)
def test_a_number_is_what_it_was(found, expected):
    assert [float(value) for value in found()] == pytest.approx(expected, rel=1e-12, abs=1e-12)
