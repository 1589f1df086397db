"""The kinds of failure that geofilter raises on purpose.

Each message is one line that a user can act on: what is wrong, where
(`data.jsonl:17`), the value, and what to do. The command line prints the
message without a traceback and exits with code 2.
"""


class GeofilterError(Exception):
    """Base of every failure that the user can do something about."""


class DataError(GeofilterError):
    """A data file or one of its rows cannot be used."""


class ModelError(GeofilterError):
    """A model, tokenizer or SAE cannot be found, loaded or combined."""


class PackError(GeofilterError):
    """A feature pack is missing, damaged, or belongs to another model or SAE."""


class TableError(GeofilterError):
    """A score table is missing, damaged, or was made from other inputs."""


class PolicyError(GeofilterError):
    """The gate's policy is missing, or something in it is wrong."""


class LockError(GeofilterError):
    """The gate's lock cannot be read or written, or does not fit what is checked."""


class OutputError(GeofilterError):
    """An output cannot be written, or exists and would be overwritten."""


class OutputExists(OutputError):
    """An output exists, and was not to be written over."""


class MissingExtraError(GeofilterError):
    """An optional dependency is absent; the message holds the install command."""
