"""From what a user writes after `--judge` to a judge.

This module knows nothing about how one judges.
"""

import re

from geofilter.errors import ModelError
from geofilter.support.display import escape
from geofilter.verify.judges.base import Judge, Rule
from geofilter.verify.judges.rule import RuleJudge

FORMS = "rule:FILE, http://HOST/v1#MODEL, https://HOST/v1#MODEL, a folder, or ORG/NAME of the hub"


def judge_named(spec: str, rule: Rule | None = None) -> Judge:
    """The judge that `spec` names: one of `FORMS`.

    `rule` is how a server's replies are read, where that was found out before.
    Raises `ModelError` when it is none of them or cannot be loaded, `DataError` for a file
    without facts, `MissingExtraError` when a package is absent.
    """
    if spec.startswith("rule:"):
        return RuleJudge(spec.removeprefix("rule:"))
    if re.match(r"https?://", spec):
        url, _, model = spec.partition("#")
        if not model:
            raise ModelError(f"{escape(spec)!r} names no model of the server; give {FORMS}")
        from geofilter.verify.judges.endpoint import EndpointJudge

        return EndpointJudge(url, model, rule=rule)
    if not spec or "://" in spec:
        raise ModelError(f"no judge is called {escape(spec)!r}; give {FORMS}")
    from geofilter.verify.judges.local import LocalJudge

    try:
        return LocalJudge(spec)
    except ModelError as error:
        raise ModelError(f"{error} (a judge is {FORMS})") from error
