"""The judges that `--judge` or `--row-judge` can name, and the one that it does name.

A new kind of judge is a module with a function such as `rule.named`, and a line in `JUDGES`.
"""

from collections.abc import Callable

from geofilter.errors import ModelError
from geofilter.support.display import escape
from geofilter.verify.judges import endpoint, guard, judged, local, rule
from geofilter.verify.judges.base import Judge
from geofilter.verify.judges.reply import Rule

# What a user writes, and what makes the judge of it: None where it names another kind.
JUDGES: tuple[tuple[str, Callable[[str, Rule | None], Judge | None]], ...] = (
    ("rule:FILE", rule.named),
    ("judged:FILE", judged.named),
    ("guard:FOLDER or guard:ORG/NAME, yes-no:FOLDER or yes-no:ORG/NAME", guard.named),
    ("http://HOST/v1#MODEL, https://HOST/v1#MODEL", endpoint.named),
    ("a folder, or ORG/NAME of the hub", local.named),
)
FORMS = ", ".join(form for form, _ in JUDGES)


def judge_named(spec: str, rule: Rule | None = None) -> Judge:
    """The judge that `spec` names: one of `FORMS`.

    `rule` is how a server's replies are read, where that was found out before.
    Raises `ModelError` for any other name and where it cannot be loaded, `DataError` for a file
    without facts, `MissingExtraError` when a package is absent.
    """
    try:
        for _, named in JUDGES:
            if (judge := named(spec, rule)) is not None:
                return judge
    except ModelError as error:
        raise ModelError(f"{error} (a judge is {FORMS})") from error
    raise ModelError(f"no judge is called {escape(spec)!r}; give {FORMS}")
