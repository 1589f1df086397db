"""Makes the default packs that ship, with the trials of their features.

    PYTHONPATH=tools python -m default_packs [MODEL ...]

writes each model's pack into `geofilter/packs/data/default`, and takes away its older one. Run it
when a test says that the pack of a model no longer is what geofilter would make: the name of
its file changes with the pairs, the recipe, the model and its SAE. The trials (see
`geofilter discover --falsify`) take most of an hour for SmolLM2 on one core; `--untried` leaves
them out. Features that only follow words stay in the pack and are labelled.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from geofilter.data.encoder import Encoder
from geofilter.data.window import window_length
from geofilter.model.loading import load
from geofilter.packs.default_pack import SHIPPED, DefaultPack
from geofilter.packs.falsify import falsify
from geofilter.packs.make import make_pack
from geofilter.packs.pairs import read_shipped

MODELS = ("smollm2-135m",)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="default_packs", description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--untried", action="store_true", help="without trials of features")
    options = parser.parse_args(arguments)
    SHIPPED.mkdir(parents=True, exist_ok=True)
    for name in options.models or MODELS:
        model = load(name, device="cpu")
        place = DefaultPack(model).shipped
        sets = read_shipped(Encoder(model.tokenizer, max_length=window_length(model)))
        pack = make_pack(model, *sets, progress=shown).pack
        if not (options.untried or pack.is_dense):
            pack = falsify(model, pack, *sets, progress=shown)
        for older in SHIPPED.glob(f"{name}-*.pack"):
            older.unlink()
        # Its SAE comes with geofilter: the folder that it lay in here says nothing to others.
        sae_name = f"{name}/block-{pack.block}, which comes with geofilter"
        replace(pack, sae_name=sae_name).save(place)
        print(f"{place.name}: {place.stat().st_size:,} bytes")


def shown(stage: str, done: int, total: int) -> None:
    print(f"\r{stage} {done:,} of {total:,}", end="\n" if done >= total else "", flush=True)


if __name__ == "__main__":
    main()
