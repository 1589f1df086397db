"""Make a feature pack from two files of rows: all that `geofilter discover` does."""

import os
from dataclasses import dataclass

from geofilter.data.encoder import Encoder
from geofilter.data.outputs import check_outputs
from geofilter.data.window import window_length
from geofilter.errors import PackError
from geofilter.model.chosen import choose
from geofilter.model.loading import load
from geofilter.packs.contrast import Contrast, read_contrast
from geofilter.packs.falsify import Given
from geofilter.packs.falsify import falsify as try_features
from geofilter.packs.make import make_pack
from geofilter.packs.named import PAIRS, identity, read_named
from geofilter.packs.pack import FeaturePack
from geofilter.packs.plain import Plain
from geofilter.support.display import shown
from geofilter.support.progress import Progress, no_progress


@dataclass(frozen=True)
class Discovery:
    """A new pack, the contrast sets that it was made from, and rows its features were tried on.

    `plain`: how well length and words alone tell the two sets apart.
    """

    pack: FeaturePack
    toxic: Contrast
    benign: Contrast
    given: Given
    plain: Plain


def discover(
    toxic: str | None,
    benign: str | None,
    model: str,
    output: str | os.PathLike[str] | None = None,
    *,
    contrast: str | None = None,
    sae: str | None = None,
    block: int | None = None,
    device: str = "auto",
    load_in: str | None = None,
    trust_remote_code: bool = False,
    falsify: bool = False,
    harmless_words: str | None = None,
    polite_harm: str | None = None,
    keep_lexical: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Discovery:
    """Choose the SAE features that are stronger in toxic than in benign rows.

    Without an SAE the pack is dense: it has no features, only the direction between the two.

    `toxic` and `benign` are files of at least 20 rows each; in place of both, `contrast` is what
    `--contrast` takes (`read_named`), such as a file of at least 20 pairs. `model`, `sae`, `block`,
    `device`, `load_in` and `trust_remote_code` are as in `load`. Each set is split in halves:
    features are chosen on one, and every figure of the pack comes from the other. The pack is saved
    to `output` where that is given, over another file only with `overwrite`.

    With `falsify` each feature is tried on words without harm and on harm without words,
    where they fit on the rows of the files `harmless_words` and `polite_harm`. Those that
    only follow words are left out unless `keep_lexical` is set.

    Raises `DataError` for rows that cannot be used, `ModelError` as `load` does,
    `OutputError` where `output` exists without `overwrite`, and `PackError` where no feature is
    left.
    """
    if not falsify and (harmless_words or polite_harm or keep_lexical):
        raise PackError("--harmless-words, --polite-harm and --keep-lexical need --falsify")
    if (toxic is None) != (benign is None) or (toxic is None) == (contrast is None):
        raise PackError("give both a toxic and a benign file, or contrast in place of them")
    if output is not None:
        read = (toxic, benign, contrast, polite_harm, harmless_words)
        check_outputs((output,), read, overwrite=overwrite)
    if falsify and not choose(model, sae, block, device, None).has_sae:
        raise PackError(
            f"--falsify tries SAE features, and {shown(model)} is read without an SAE; "
            "leave it out, or give an SAE with --sae"
        )
    if contrast is not None:
        identity(contrast)  # a wrong path is reported at once
    loaded = load(
        model,
        sae=sae,
        block=block,
        device=device,
        load_in=load_in,
        trust_remote_code=trust_remote_code,
    )
    encoder = Encoder(loaded.tokenizer, max_length=window_length(loaded))
    if toxic is not None and benign is not None:
        sets = read_contrast(toxic, encoder), read_contrast(benign, encoder)
    else:
        sets = read_named(contrast or PAIRS, encoder)
    given = Given(
        harm=read_contrast(polite_harm, encoder) if polite_harm else None,
        words=read_contrast(harmless_words, encoder) if harmless_words else None,
    )
    made = make_pack(loaded, *sets, progress=progress)
    pack = made.pack
    if falsify:
        pack = try_features(loaded, pack, *sets, given=given, progress=progress)
    if not keep_lexical:
        pack = pack.without_lexical()
    if output is not None:
        pack.save(output, overwrite=overwrite)
    return Discovery(pack, *sets, given, made.plain)
