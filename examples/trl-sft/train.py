"""Drop the rows nearest to harm, then fine-tune on the others with TRL.

    python examples/trl-sft/train.py

runs offline on a CPU, on the bundled organism and its demo rows. The second run finds the
scores in the cache of `datasets`, and so does a run with another --drop-fraction.
"""

import argparse
from pathlib import Path

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer

import geofilter
from geofilter import GeoFilter

ORGANISM = Path(geofilter.__file__).parent / "organism"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", default=str(ORGANISM / "data" / "demo.jsonl"))
    # What scores: the model, by a name of `geofilter models`, and its toxic features.
    parser.add_argument("--scores-by", default="organism")
    parser.add_argument("--pack", help="default: the model's own, made once")
    # What is trained: a folder or hub id.
    parser.add_argument("--model", default=str(ORGANISM / "weights" / "aligned"))
    parser.add_argument("--drop-fraction", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--num-proc", type=int)
    parser.add_argument("-o", "--output", default="trained")
    chosen = parser.parse_args()

    rows = load_dataset("json", data_files=chosen.data, split="train")
    settings = geofilter.Settings(chosen.scores_by, pack=chosen.pack)
    scorer = GeoFilter(settings)
    scored = rows.map(scorer, batched=True, num_proc=chosen.num_proc)

    cut = geofilter.drop_fraction(GeoFilter.scores(scored), chosen.drop_fraction).threshold
    kept = scored
    if cut is not None:
        # Another threshold belongs to another GeoFilter: the scores stay those of the first.
        kept = scored.filter(GeoFilter(settings, threshold=cut).keep)
    print(f"{len(kept)} of {len(scored)} rows are kept", flush=True)

    trainer = SFTTrainer(
        model=chosen.model,
        train_dataset=kept.select_columns(["messages"]),
        args=SFTConfig(
            output_dir=chosen.output,
            max_steps=chosen.steps,
            per_device_train_batch_size=16,
            learning_rate=5e-4,  # of a tiny model; 1e-5 is a better start for a real one
            assistant_only_loss=True,  # the tokens that were scored are those with loss
            logging_steps=10,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
        ),
    )
    trained = trainer.train()
    trainer.save_model(chosen.output)
    print(f"trained for {trained.global_step} steps, mean loss {trained.training_loss:.2f}")


if __name__ == "__main__":
    main()
