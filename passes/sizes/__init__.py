"""Sizes of tensors, as polynomials in the symbols that a graph's inputs have for theirs.

Shape inference keeps symbols only while nobody computes with them; exporters compute with them
before every Reshape. Here the few ops they use for that are followed, so that two sizes that are
always equal are equal, and where nothing is known a size is a symbol of its own. Symbols of one
name are taken to be the same number wherever they are declared, and to be at least 1 where an op
means something else by 0 (Reshape, a Slice from -size on).
"""

from sardonyx.passes.sizes.dim import Dim, Shape, Size
from sardonyx.passes.sizes.sizes import Sizes
from sardonyx.passes.sizes.value_rules import Values

__all__ = ["Dim", "Shape", "Size", "Sizes", "Values"]
