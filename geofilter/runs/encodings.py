"""Encodings that are kept between the check of a data set and its scoring.

Both need every sample as tokens. A check before the model is loaded would otherwise cost a
second tokenising of the whole file.
"""

import hashlib

from geofilter.data.encoder import Encoded
from geofilter.data.samples import Sample
from geofilter.runs.engines.worker import SampleEncoder

# Tokens that are kept: about 100 MB. Samples after them are encoded again.
_MOST_TOKENS = 2**24


class KnownEncodings:
    """An encoder that remembers: the same sample is encoded once, up to a bound on memory."""

    def __init__(self, encoder: SampleEncoder, *, most_tokens: int = _MOST_TOKENS) -> None:
        self._encoder = encoder
        self._left = most_tokens
        self._known: dict[bytes, Encoded] = {}

    def encode(self, sample: Sample) -> Encoded:
        """The sample as tokens. Raises what the encoder raises."""
        key = hashlib.blake2b(repr(sample).encode("utf-8", "surrogatepass"), digest_size=16)
        digest = key.digest()
        known = self._known.get(digest)
        if known is not None:
            return known
        encoded = self._encoder.encode(sample)
        if len(encoded.ids) <= self._left:
            self._left -= len(encoded.ids)
            self._known[digest] = encoded
        return encoded
