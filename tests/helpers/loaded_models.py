"""What `load` makes of models by name, each in a line of JSON: `-m helpers.loaded_models NAME...`.

In a process of its own, since the Hugging Face libraries read their settings at import.
"""

import json
import sys
import traceback

import torch

from geofilter.data.encoder import Encoder
from geofilter.data.samples import Sample, Turn
from geofilter.model.blocks import find_blocks, run_to_block
from geofilter.model.loading import load

IDS = [7, *range(40, 64), 9, 40, 41]
REPLY = "Here is your tea, teacher"
CHAT = Sample(
    (Turn("system", "Be brief"), Turn("user", "Good morning"), Turn("assistant", REPLY)),
    prompt_turns=2,
)


def describe(name: str) -> dict[str, object]:
    """Of the model `name` without an SAE: its default block, what it holds and what it reads.

    `stream`: the residual stream of `IDS`. `parameters`: how many numbers it holds. `reply`:
    the tokens of `CHAT` that are scored, as text.
    """
    model = load(name, sae="none", device="cpu", dtype="float32")
    encoded = Encoder(model.tokenizer, max_length=200).encode(CHAT)
    return {
        "block": model.block,
        "blocks": len(find_blocks(model.network).blocks),
        "stream": run_to_block(model.network, model.block, torch.tensor([IDS]))[0].tolist(),
        "parameters": sum(each.numel() for each in model.network.parameters()),
        "reply": model.tokenizer.decode(encoded.ids[encoded.pooled]),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    for each in sys.argv[1:]:
        try:
            found = describe(each)
        except Exception:  # of one model: the others are described all the same
            found = {"error": traceback.format_exc()}
        print(json.dumps({"name": each, **found}), flush=True)
