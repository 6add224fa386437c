"""Where products of 8 bits are exact on a processor without VNNI.

Its instruction (VPMADDUBSW) multiplies 16 or more pairs of neighbours at once, each an unsigned
activation by a signed weight, and keeps the sum of a pair in 16 signed bits: what does not fit is
cut to the nearest end, silently. With activations of 255 and weights of magnitude m the sum is at
most 2 * 255 * m. m = 64 gives 32,640 and fits in 32,767; m = 65 gives 33,150 and does not. So codes
of 7 bits, of magnitude up to 63, never saturate, and codes of 8 bits do. VNNI keeps sums in 32
bits, and unsigned weights are multiplied by other instructions, which do as well.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_EXACT = 64
"""The largest magnitude of a weight whose pair sums cannot saturate."""


def may_saturate(codes: NDArray[Any]) -> bool:
    """Whether codes of weights are signed, and too large for sums of 16 bits."""
    if codes.dtype != np.int8 or codes.size == 0:
        return False
    return bool(max(-int(codes.min()), int(codes.max())) > LARGEST_EXACT)
