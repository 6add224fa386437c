"""What every number format of weights offers to those who record, count and check it."""

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sardonyx.runtime_ops.formats import Format

Floats: TypeAlias = NDArray[np.floating[Any]]


class CodedTensor(Protocol):
    """A weight matrix W [K, N] in a format of its own."""

    @property
    def format(self) -> Format: ...

    @property
    def nbytes(self) -> int:
        """Bytes of all its arrays."""

    @property
    def groups(self) -> int:
        """Tables or scales in the tensor."""

    @property
    def outliers(self) -> int:
        """Weights kept in floating point."""

    def decode(self) -> Floats:
        """W as products see it: [K, N], in the dtype of the weights."""

    def contradiction(self, weights: Floats) -> str:
        """What is wrong with this as the encoding of W; empty where nothing is."""
