"""`geofilter sae`: an SAE for a model that has none."""

from typing import TYPE_CHECKING

import click

from geofilter.cli.options import (
    data_argument,
    device_option,
    json_option,
    model_option,
    overwrite_option,
    several,
    trust_option,
)
from geofilter.cli.output import note, print_json, print_table, progress, say_read, time_text
from geofilter.support.display import argument, escape

if TYPE_CHECKING:
    from geofilter.model.sae_training.train import Trained


@click.group("sae")
def command() -> None:
    """Train an SAE of your own model.

    \b
    Example:
      geofilter sae train chats.jsonl --model my-model --block 10 -o my-sae
    """


_sizes = several(
    click.option(
        "--latents",
        type=click.IntRange(min=2),
        metavar="N",
        help="Features of the SAE. Default: 4 for each dimension of the residual stream.",
    ),
    click.option(
        "--k",
        "active",
        type=click.IntRange(min=1),
        metavar="N",
        help="Features that fire at a token. Default: 32, or 64 above 1024 dimensions.",
    ),
    click.option(
        "--tokens",
        type=click.IntRange(min=1),
        metavar="N",
        help="Read rows until they hold so many tokens. Default: 500 for each feature.",
    ),
    click.option(
        "--passes",
        type=click.IntRange(min=1),
        metavar="N",
        help="How often each token is seen. Default: as often as the features need, at most 12.",
    ),
)


@command.command("train")
@data_argument
@model_option
@click.option(
    "--block",
    "blocks",
    type=click.IntRange(min=0),
    multiple=True,
    required=True,
    metavar="N",
    help="Read the residual stream after this block. May be repeated: the model runs once.",
)
@click.option("-o", "--output", required=True, metavar="FOLDER", help="Where the SAE is saved.")
@_sizes
@click.option(
    "--max-length",
    type=click.IntRange(min=8),
    default=512,
    show_default=True,
    metavar="N",
    help="Tokens of a row that are looked at.",
)
@click.option(
    "--buffer-mb",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    metavar="N",
    help="Megabytes of residual streams that are kept on disk and shuffled at once.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--half", is_flag=True, help="Save in half precision: half the size.")
@click.option(
    "--no-loss",
    is_flag=True,
    help="Do not measure the loss recovered, for which the whole model is loaded.",
)
@device_option
@trust_option
@overwrite_option
@json_option
def train(
    data: str | tuple[str, ...],
    model: str,
    blocks: tuple[int, ...],
    output: str,
    latents: int | None,
    active: int | None,
    tokens: int | None,
    passes: int | None,
    max_length: int,
    buffer_mb: int,
    seed: int,
    half: bool,
    no_loss: bool,
    device: str,
    trust_remote_code: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train an SAE that reads MODEL after a block, on the text of DATA.

    DATA are rows of any layout, chats or plain text, like those that you mean to score; prompts
    count as well as responses. One row in twenty is kept apart, and the figures are of those.

    The folder is in sae-lens' format: give it to other commands with --sae. With several blocks
    it holds one folder for each, block-N. A command that was interrupted goes on where it
    stopped when you repeat it.

    \b
    Examples:
      geofilter sae train chats.jsonl --model my-model --block 10 -o my-sae
      geofilter sae train chats.jsonl --model smollm2-135m --block 10 --block 14 -o my-saes
      geofilter discover --toxic bad.jsonl --benign good.jsonl \\
          --model my-model --sae my-sae -o my.pack
    """
    from geofilter.model.sae_training.train import train_saes

    with progress() as report:
        trained = train_saes(
            data,
            model,
            output,
            blocks=blocks,
            latents=latents,
            active=active,
            tokens=tokens,
            passes=passes,
            buffer_mb=buffer_mb,
            max_length=max_length,
            seed=seed,
            half=half,
            with_loss=not no_loss,
            device=device,
            trust_remote_code=trust_remote_code,
            overwrite=overwrite,
            progress=report,
        )
    say_read(data if isinstance(data, str) else data[0], trained.texts.reading)
    if trained.texts.skipped:
        counts = ", ".join(f"{n} {status}" for status, n in sorted(trained.texts.skipped.items()))
        note(f"rows that were not used: {counts}")
    if as_json:
        print_json(_summary(trained))
    else:
        _print(trained, model)


def _summary(trained: "Trained") -> dict[str, object]:
    return {
        "saes": {
            str(block): {"folder": str(folder), **trained.quality[block].record()}
            for block, folder in trained.folders.items()
        },
        "model": trained.model,
        "latents": trained.plan.latents,
        "k": trained.plan.active,
        "tokens": trained.tokens,
        "passes": trained.passes,
        "held_out_rows": len(trained.texts.held_out),
        "seconds": round(trained.seconds, 1),
        "reading": trained.texts.reading.record(),
        "skipped": trained.texts.skipped,
    }


def _print(trained: "Trained", model: str) -> None:
    click.echo(
        f"{trained.plan.latents:,} latents, {trained.plan.active} at a token, trained on "
        f"{trained.tokens:,} tokens ({trained.passes} x) in {time_text(trained.seconds)}. "
        f"On {len(trained.texts.held_out)} rows that were kept apart:\n"
    )
    rows = []
    for block, folder in trained.folders.items():
        figures = trained.quality[block]
        loss = figures.loss_recovered
        rows.append(
            [
                str(block),
                f"{figures.explained_variance:.0%}",
                f"{figures.l0:.0f}",
                f"{figures.dead_share:.1%}",
                "-" if loss is None else f"{loss:.0%}",
                escape(str(folder), limit=None),
            ]
        )
    print_table(["block", "variance", "L0", "dead", "loss recovered", "folder"], rows)
    first = next(iter(trained.folders.values()))
    click.echo(
        f"\nNext: geofilter discover --toxic TOXIC --benign BENIGN --model {argument(model)} "
        f"--sae {argument(str(first))} -o my.pack"
    )
