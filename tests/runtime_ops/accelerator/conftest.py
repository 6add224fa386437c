"""The definition of a whole product, from a weight in the form of the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sardonyx.runtime_ops.accelerator.scalar import output
from sardonyx.runtime_ops.gobo import GoboTensor

Product = Callable[[NDArray[Any], GoboTensor], NDArray[np.float32]]


@pytest.fixture(scope="session")
def scalar_product() -> Product:
    """``A @ W`` of float32 [M, K], output by output."""

    def run(a: NDArray[Any], tensor: GoboTensor) -> NDArray[np.float32]:
        indices, (k, n) = tensor.unpacked(), tensor.outlier_places()
        out = np.empty((len(a), tensor.columns), np.float32)
        for column in range(tensor.columns):
            own = n == column
            outliers = dict(zip(k[own].tolist(), tensor.values[own], strict=True))
            table = tensor.centroids[tensor.tables[column]]
            for row in range(len(a)):
                with np.errstate(over="ignore", invalid="ignore"):
                    out[row, column] = output(a[row], indices[:, column], table, outliers)
        return out

    return run
