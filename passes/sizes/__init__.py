"""Sizes of tensors, as products of the symbols that a graph's inputs have for theirs.

Shape inference keeps symbols only while nobody computes with them; exporters compute with them
before every Reshape. Here the few ops they use for that are followed, so that two sizes that are
always equal are equal, and where nothing is known a size is a symbol of its own.
"""

from sardonyx.passes.sizes.dim import Dim, Shape, Size
from sardonyx.passes.sizes.sizes import Sizes
from sardonyx.passes.sizes.value_rules import Values

__all__ = ["Dim", "Shape", "Size", "Sizes", "Values"]
