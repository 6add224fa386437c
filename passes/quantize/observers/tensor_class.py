"""What kind of values a tensor holds, told from its histogram alone."""

from dataclasses import dataclass
from typing import Literal

from sardonyx.passes.quantize.observers.histogram import Histogram


@dataclass(frozen=True)
class TensorClass:
    """A class of Bhandare et al. (arXiv 1906.00532, section 4.2) and the sentence that says why."""

    name: Literal["sparse", "narrow", "gaussian"]
    reason: str


def tensor_class(histogram: Histogram) -> TensorClass:
    """The class of a tensor."""
    raise NotImplementedError
