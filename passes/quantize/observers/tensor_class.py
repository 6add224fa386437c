"""What kind of values a tensor holds, told from its histogram alone."""

from dataclasses import dataclass
from typing import Literal

from sardonyx.passes.quantize.observers.histogram import Histogram

SPARSE = 0.25
"""Share of exact zeros. ReLU leaves about a half or more, a causal mask (n - 1) / 2n of the
probabilities of n tokens; the outputs of GELU, dense softmax and LayerNorm a few percent at most.
"""

NARROW = 0.99
"""Share of values within an eighth of the largest magnitude: these get at most 32 of the 256 steps
of an INT8 grid over the whole range. Of Gaussian values less than half lie there, of Laplace values
about nine in ten; of activations with an outlier channel nearly all."""


@dataclass(frozen=True)
class TensorClass:
    """A class of Bhandare et al. (arXiv 1906.00532, section 4.2) and the sentence that says why."""

    name: Literal["sparse", "narrow", "gaussian"]
    reason: str


def tensor_class(histogram: Histogram) -> TensorClass:
    """The class of a tensor, by the first rule that holds:

    1. sparse: at least a quarter of the values are exactly zero;
    2. narrow: at least 99 % of them lie within an eighth of the largest magnitude (in whole bins);
    3. gaussian: all others, and a tensor without values.
    """
    if histogram.count == 0:
        return TensorClass("gaussian", "it had no values")
    zeros = histogram.zeros / histogram.count
    if zeros >= SPARSE:
        return TensorClass("sparse", f"{zeros:.1%} of its values are exactly zero")
    eighth = int(histogram.largest / histogram.width / 8)
    within = int((histogram.positive + histogram.negative)[:eighth].sum()) / histogram.count
    reason = f"{within:.1%} of its values lie within an eighth of the largest magnitude"
    return TensorClass("narrow" if within >= NARROW else "gaussian", reason)
