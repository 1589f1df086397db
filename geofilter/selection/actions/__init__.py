"""What may become of the rows chosen. A new action is one file here and one line below."""

from collections.abc import Mapping

from geofilter.selection.actions.base import Action
from geofilter.selection.actions.drop import DROP
from geofilter.selection.actions.inoculate import INOCULATE
from geofilter.selection.actions.mask import MASK
from geofilter.selection.actions.replace import REPLACE
from geofilter.selection.actions.review import REVIEW
from geofilter.selection.actions.switch import SWITCH
from geofilter.selection.actions.weigh import WEIGH

# By the name that `--action` takes. The first is the default.
ACTIONS: Mapping[str, Action] = {
    "drop": DROP,
    "mask": MASK,
    "weight": WEIGH,
    "review": REVIEW,
    "inoculate": INOCULATE,
    "replace": REPLACE,
    "switch": SWITCH,
}
