"""What decides a run besides its rows: one object, and the values that may stand in it.

Command-line options, the keys of `[tool.geofilter]`, `GeoFilter`, the estimate and the
manifest are all derived from `Settings`. It loads nothing, so that anything may read it.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from geofilter.errors import GeofilterError
from geofilter.support.display import escape

Proximity = Literal["mean", "nearest"]
PROXIMITIES: tuple[Proximity, ...] = get_args(Proximity)

Pooling = Literal["mean", "max"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)

DTYPES = ("float32", "bfloat16")
LOAD_IN = ("4bit", "8bit")


def _setting(
    about: str,
    default: Any = MISSING,
    *,
    metavar: str | None = None,
    least: int | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field with what the command line says of it; `least` bounds a whole number."""
    metadata = {"about": about, "metavar": metavar, "least": least, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What decides a run besides its rows; None stands for the default.

    Raises `GeofilterError` for a value that a field cannot hold. The names of scorers are
    those of the table `geofilter.scoring.scorers`.
    """

    model: str = _setting(
        "The model that is about to be trained or, without an SAE for it, the base model it was "
        "made from; `geofilter models` lists the names.",
        metavar="NAME|FOLDER|ORG/NAME",
    )
    sae: str | None = _setting(
        "The SAE that reads it, or none. Default: the one that `geofilter models` shows; none for "
        "a model that it does not list.",
        None,
        metavar="FOLDER|RELEASE/ID|none",
    )
    block: int | None = _setting(
        "Read the residual stream after this block.", None, metavar="N", least=0
    )
    device: str = _setting("auto, cpu, cuda, cuda:1, mps, ...", "auto")
    pack: str | None = _setting("Toxic features. Default: the model's own.", None, metavar="PACK")
    contrast: str | None = _setting(
        "What the model's own pack is made from: the pairs that come with geofilter, the ends of "
        "RealToxicityPrompts (rtp), or rows of chosen and rejected answers. Default: pairs; of "
        "organism its own sets.",
        None,
        metavar="pairs|rtp|hf://ORG/NAME|FILE",
    )
    scorer: str | None = _setting(
        "What the score is made of; higher = nearer to harm for all of them. Default: the one "
        "that `geofilter models` shows.",
        None,
    )
    proximity: Proximity = _setting(  # noqa: RUF009
        "For nearest: proximity to all toxic features on average, or to the nearest.",
        "nearest",
        choices=PROXIMITIES,
    )
    max_length: int | None = _setting(
        "Tokens of a row that are looked at. Default: 2048, or what the model can take.",
        None,
        metavar="N",
        least=1,
    )
    last_turn: bool = _setting("Only the last assistant turn is the response.", False)
    dtype: str | None = _setting(
        "Precision of the model. Default: float32 on a CPU, bfloat16 elsewhere.",
        None,
        choices=DTYPES,
    )
    load_in: str | None = _setting(
        "Round the weights when they are loaded, with bitsandbytes on a GPU of CUDA: another "
        "model, with other scores and a pack of its own.",
        None,
        choices=LOAD_IN,
    )
    # Never read from a table or a policy: only who runs the command can trust code.
    trust_remote_code: bool = _setting(
        "Let the model run code that comes with it. Read that code first.", False
    )

    def __post_init__(self) -> None:
        for name in _settings():
            value = getattr(self, name)
            if not fits(name, value):
                shown = escape(value, limit=200)
                raise GeofilterError(f"{name} {shown}: is not {wanted(name)}")
        if self.pack is not None and self.contrast is not None:
            raise GeofilterError(
                f"contrast {escape(self.contrast, limit=200)}: says what a pack is made from, and "
                "a pack is given that is made; leave out one of the two"
            )


@cache
def _settings() -> Mapping[str, Field[Any]]:
    return {one.name: one for one in fields(Settings)}


@cache
def types(name: str) -> tuple[type, ...]:
    """The types that a field may hold."""
    hint = get_type_hints(Settings)[name]
    parts = [str if get_origin(part) is Literal else part for part in get_args(hint) or [hint]]
    return (str,) if get_origin(hint) is Literal else tuple(parts)


def choices(name: str) -> tuple[str, ...]:
    """The allowed values of a field that has only a few; () for others."""
    found: tuple[str, ...] = _settings()[name].metadata["choices"]
    return found


def about(name: str) -> str:
    """What the command line says of a field."""
    return str(_settings()[name].metadata["about"])


def metavar(name: str) -> str | None:
    """What stands for the field's value in a line of help."""
    found: str | None = _settings()[name].metadata["metavar"]
    return found


def least(name: str) -> int | None:
    """The least value of a field that holds a whole number."""
    found: int | None = _settings()[name].metadata["least"]
    return found


def default(name: str) -> Any:
    """A field's default; MISSING where it has to be given."""
    return _settings()[name].default


def fits(name: str, value: object) -> bool:
    """Whether a field can hold `value`."""
    if type(value) not in types(name):
        return False
    if value is None or type(value) is bool:
        return True
    if type(value) is int:
        bound = least(name)
        return bound is None or value >= bound
    return not choices(name) or value in choices(name)


def wanted(name: str) -> str:
    """What a field holds, in words: "one of mean, nearest"."""
    if choices(name):
        return f"one of {', '.join(choices(name))}"
    held = types(name)
    if bool in held:
        return "true or false"
    if int in held:
        return f"a whole number, {least(name)} or more"
    return "a text"
