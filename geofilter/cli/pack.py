"""`geofilter pack`: look at a feature pack, write a model's own, share one on the hub."""

from typing import TYPE_CHECKING

import click

from geofilter.cli.options import json_option, overwrite_option
from geofilter.cli.output import note, print_json, print_table, progress
from geofilter.support.display import argument, escape, shown

if TYPE_CHECKING:
    from geofilter.packs.pack import FeaturePack
    from geofilter.packs.verdicts import Trial


@click.group("pack")
def command() -> None:
    """Look at a feature pack, write a model's own, or share one as a hub repository.

    \b
    Examples:
      geofilter pack show my.pack
      geofilter pack default smollm2-135m -o toxic.pack
      geofilter pack push my.pack my-org/my-pack --private
      geofilter pack pull my-org/my-pack
    """


@command.command("show")
@click.argument("pack")
@json_option
def show(pack: str, as_json: bool) -> None:
    """List a pack's features with labels and statistics, and the trials of each.

    PACK is a file or hf://ORG/NAME. A label says what the feature follows: more than its
    words (harm), words alone (lexical), unclear, or untested where `discover --falsify` was
    not asked for. A page on Neuronpedia is shown where there is one.

    \b
    Examples:
      geofilter pack show my.pack
      geofilter pack show hf://my-org/my-pack --json
    """
    from geofilter.packs.pack import load_pack

    loaded = load_pack(pack)
    if as_json:
        print_json(_summary(loaded))
    else:
        _print(loaded)


@command.command("default")
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="FILE", help="Where the pack goes.")
@overwrite_option
@json_option
def default(model: str, output: str, overwrite: bool, as_json: bool) -> None:
    """Write the pack that a model takes where none is named, to commit it for the gate.

    MODEL is as in `geofilter score --model`. Of smollm2-135m the pack comes with geofilter and is
    written at once; of another model it is made first, as `score` would make it, and kept.

    \b
    Examples:
      geofilter pack default smollm2-135m -o toxic.pack
      geofilter pack default organism -o toxic.pack --overwrite
    """
    from geofilter.packs.default_pack import save_default_pack

    with progress() as report:
        pack = save_default_pack(model, output, overwrite=overwrite, progress=report)
    if as_json:
        print_json({"pack": output, "digest": pack.digest, "block": pack.block})
        return
    _head(pack)
    given = f"--model {argument(model)} --pack {argument(output)}"
    click.echo(f"→ {escape(output, limit=None)}\n\nNext: geofilter score DATA {given}")


@command.command("push")
@click.argument("pack")
@click.argument("repository", metavar="ORG/NAME")
@click.option("--private", is_flag=True, help="Make the repository private.")
@json_option
def push(pack: str, repository: str, private: bool, as_json: bool) -> None:
    """Put a pack and a card about it into a hub repository, which is made if need be.

    It needs a token with write access: `hf auth login`, or HF_TOKEN. A repository that
    holds something else is left alone.

    \b
    Example:
      geofilter pack push my.pack my-org/my-pack --private
    """
    from geofilter.packs import share
    from geofilter.packs.pack import load_pack

    loaded = load_pack(pack)
    address = share.push(loaded, repository, private=private)
    if as_json:
        print_json({"repository": repository, "commit": address})
        return
    what = "A dense direction" if loaded.is_dense else f"{len(loaded)} toxic features"
    click.echo(f"{what} → {escape(address, limit=None)}")
    click.echo(f"\nNext: geofilter score DATA --model MODEL --pack hf://{repository}")


@command.command("pull")
@click.argument("repository", metavar="ORG/NAME")
@click.option("-o", "--output", metavar="FILE", help="Where the pack goes. Default: NAME.pack.")
@click.option("--revision", metavar="REV", help="A branch, tag or commit. Default: main.")
@overwrite_option
@json_option
def pull(
    repository: str, output: str | None, revision: str | None, overwrite: bool, as_json: bool
) -> None:
    """Fetch the pack of a hub repository and write it to a file.

    Whether it fits a model is checked when it is used.

    \b
    Example:
      geofilter pack pull my-org/my-pack -o my.pack
    """
    from geofilter.packs import share

    pulled = share.pull(repository, output, revision=revision, overwrite=overwrite)
    place = str(pulled.path)
    if as_json:
        print_json({"pack": place, "revision": pulled.revision, "digest": pulled.pack.digest})
        return
    _head(pulled.pack)
    click.echo(f"\nNext: geofilter score DATA --model MODEL --pack {argument(place)}")


# The columns that `figures` fills.
FIGURES = ("AUROC", "95 %", "fires toxic", "benign", "active at")


def figures(pack: "FeaturePack", k: int) -> list[str]:
    """What the rows that had no part in the choice say of the pack's feature at place k."""
    statistics = pack.statistics
    return [
        f"{statistics.auroc[k]:.2f}",
        f"{statistics.auroc_low[k]:.2f}-{statistics.auroc_high[k]:.2f}",
        f"{statistics.toxic_firing[k]:.0%}",
        f"{statistics.benign_firing[k]:.0%}",
        " ".join(escape(token, limit=16) for token in pack.labels[k]),
    ]


def feature_record(pack: "FeaturePack", k: int) -> dict[str, object]:
    """The pack's feature at place k, for programs."""
    statistics = pack.statistics
    return {
        "feature": int(pack.ids[k]),
        "weight": float(pack.weights[k]),
        "label": pack.verdicts[k],
        "effect": float(statistics.effect[k]),
        "auroc": float(statistics.auroc[k]),
        "auroc_interval": [float(statistics.auroc_low[k]), float(statistics.auroc_high[k])],
        "toxic_firing": float(statistics.toxic_firing[k]),
        "benign_firing": float(statistics.benign_firing[k]),
        "woken_by": list(pack.labels[k]),
    }


def _head(pack: "FeaturePack") -> None:
    if pack.is_dense:
        what, read_by = "A dense direction", "without an SAE"
    else:
        what, read_by = f"{len(pack)} toxic features", f"SAE {shown(pack.sae_name)}"
    click.echo(
        f"{what} of {shown(pack.model_name)} at block {pack.block}, {read_by}\ndigest {pack.digest}"
    )


def _print(pack: "FeaturePack") -> None:
    _head(pack)
    if pack.is_dense:
        click.echo(f"\n{_dense_figures(pack)}")
        return
    verdicts, pages = pack.verdicts, _pages(pack)
    click.echo()
    print_table(
        ["feature", "weight", "label", *FIGURES],
        [
            [str(pack.ids[k]), f"{pack.weights[k]:.3f}", verdicts[k], *figures(pack, k)]
            for k in range(len(pack))
        ],
    )
    if pack.trials:
        _print_trials(pack)
    else:
        note("no feature was tried; `geofilter discover --falsify` labels them")
    if pages:
        click.echo("\nOn Neuronpedia:")
        for feature, page in pages.items():
            click.echo(f"  {feature}  {page}")


def _dense_figures(pack: "FeaturePack") -> str:
    contrast = pack.contrast
    return (
        f"On {contrast.toxic_rows} toxic and {contrast.benign_rows} benign rows that it was not "
        f"made from: AUROC {contrast.persona_auroc:.2f} "
        f"({contrast.persona_auroc_low:.2f}-{contrast.persona_auroc_high:.2f}).\n"
        "It has no features; --scorer persona and spillover need none."
    )


def _print_trials(pack: "FeaturePack") -> None:
    kept = set(pack.ids.tolist())
    click.echo(
        "\nTrials: activation in toxic rows = 1, in benign rows = 0. `harm > words` is the "
        "chance\nthat harm without the feature's words activates it more than the words "
        "without harm."
    )
    print_table(
        ["feature", "label", "words alone", "harm alone", "harm > words", "interval", "words"],
        [
            [
                f"{trial.feature}{'' if trial.feature in kept else ' (left out)'}",
                trial.verdict,
                f"{trial.recovered:.2f}",
                f"{trial.retained:.2f}",
                f"{trial.auroc:.2f}",
                f"{trial.auroc_low:.2f}-{trial.auroc_high:.2f}",
                " ".join(escape(word, limit=16) for word in trial.words[:5]),
            ]
            for trial in pack.trials
        ],
    )


def _pages(pack: "FeaturePack") -> dict[int, str]:
    from geofilter.packs.share import neuronpedia

    found = {int(feature): neuronpedia(pack.sae_name, int(feature)) for feature in pack.ids}
    return {feature: page for feature, page in found.items() if page is not None}


def _summary(pack: "FeaturePack") -> dict[str, object]:
    pages, kept = _pages(pack), set(pack.ids.tolist())
    return {
        "digest": pack.digest,
        "model": pack.model_name,
        "sae": pack.sae_name,
        "block": pack.block,
        "dense_auroc": pack.contrast.persona_auroc,
        "dense_auroc_interval": [pack.contrast.persona_auroc_low, pack.contrast.persona_auroc_high],
        "features": [
            feature_record(pack, k)
            | {
                "benign_mean": float(pack.reference[pack.ids[k]]),
                "neuronpedia": pages.get(int(pack.ids[k])),
            }
            for k in range(len(pack))
        ],
        "trials": [
            _trial(trial) | {"left_out": trial.feature not in kept} for trial in pack.trials
        ],
    }


def _trial(trial: "Trial") -> dict[str, object]:
    """A trial with its shares, which JSON cannot spell where they are not defined."""
    shares = {"recovered": trial.recovered, "retained": trial.retained}
    defined = {name: share if share == share else None for name, share in shares.items()}
    return {**trial.to_record(), "label": trial.verdict, **defined}
