"""Size: how small the paper's container and the compiled file get, and where every byte goes.

BERT-base shape, seeded, 0.1 % outliers (`models.seeded_bert`), recipes gobo (3-bit weights, 4-bit
embeddings) and gobo4:

- *container ratio* = 4 bytes x the encoded weights / the paper's containers of those
  (`runtime_ops.container`, real ones, each decoded again). This is the ratio that the paper's
  headline counts: no biases, no normalisation parameters. "Count-free" leaves out the outlier count
  of each sub-matrix, as the headline's arithmetic does; "all parameters" adds every float parameter
  that stays FP32 to both sides.
- *file ratio* = bytes of the FP32 .onnx file / bytes of the compiled .onnx file.

Real models, recipe gobo: *bits per weight* = 8 x bytes of indices, centroids and outliers in the
file / encoded weights; *nominal* = the mean of 3 and 4 bits over the same weights. Then the
compiled file byte by byte: its parts are measured one by one and must add up to its size exactly.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from account import account, account_rows, unquantized_rows
from common import REAL, SUBJECTS, Target, arguments, finish, show, workspace

from sardonyx.compiler import Compiled, compile
from sardonyx.compiler.driver import Driver
from sardonyx.runtime_ops import container
from sardonyx.runtime_ops.gobo import GoboTensor

PAPER = {"gobo": "9.83 (recalled from the paper)", "gobo4": "7.92 (by the paper's arithmetic)"}
TARGETS = {"gobo": (9.70, 9.60), "gobo4": (7.80, 7.75)}
"""At least: container ratio with its count byte, file ratio."""


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, ("bert-base", *REAL))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    targets: list[Target] = []
    with workspace() as folder:
        for name in options.models:
            path = SUBJECTS[name].write(folder)
            measure = ratios if name == "bert-base" else real_model
            results[name], met = measure(SUBJECTS[name].title, path, folder)
            targets += met
    finish("size", results, targets, options.json)


def encode_file(path: Path, recipe: str, output: Path) -> tuple[Compiled, list[GoboTensor]]:
    """Compile a file and write the result; also the tensors it encoded."""
    drivers: list[Driver] = []
    compiled = compile(path, recipe, observe=lambda _, driver: drivers.append(driver))
    compiled.save(output)
    return compiled, [entry.tensor for entry in drivers[-1].journal.encoded]


def ratios(title: str, path: Path, folder: Path) -> tuple[dict[str, Any], list[Target]]:
    """Container and file ratios of the seeded model under both recipes."""
    results: dict[str, Any] = {}
    targets, rows = [], []
    for recipe, (container_bound, file_bound) in TARGETS.items():
        output = folder / f"{recipe}.onnx"
        compiled, tensors = encode_file(path, recipe, output)
        figures = container_bytes(tensors)
        weights = 4 * sum(t.rows * t.columns for t in tensors)
        every = 4 * float_parameters(path)
        counted = weights / figures["container"]
        free = weights / (figures["container"] - figures["counts"])
        with_rest = every / (figures["container"] + every - weights)
        file_ratio = path.stat().st_size / output.stat().st_size
        share = compiled.report.totals.outlier_share
        rows.append(
            (recipe, f"{share:.4%}", f"{counted:.3f}", f"{free:.3f}", PAPER[recipe])
            + (f"{with_rest:.3f}", f"{file_ratio:.3f}", f"{output.stat().st_size:,}")
        )
        results[recipe] = figures | {
            "fp32_weight_bytes": weights,
            "fp32_parameter_bytes": every,
            "container_ratio": counted,
            "container_ratio_without_counts": free,
            "container_ratio_all_parameters": with_rest,
            "fp32_file_bytes": path.stat().st_size,
            "file_bytes": output.stat().st_size,
            "file_ratio": file_ratio,
            "outlier_share": share,
            "file": account(output, compiled.report),
        }
        targets.append(Target(f"{recipe}: container ratio", counted, ">=", container_bound))
        targets.append(Target(f"{recipe}: file ratio", file_ratio, ">=", file_bound))
    show(
        f"{title}, bytes: FP32 file {path.stat().st_size:,}, of which parameters {every:,}, "
        f"of which weights {weights:,}",
        ("recipe", "outliers", "container", "count-free", "paper's")
        + ("all parameters", "file", "file bytes"),
        rows,
    )
    for recipe in TARGETS:
        show(f"{title}, {recipe}: the file", *account_rows(results[recipe]["file"]))
    return results, targets


def container_bytes(tensors: list[GoboTensor]) -> dict[str, int]:
    """Bytes of the containers of all tensors, and of the outlier counts in them."""
    sizes: Counter[str] = Counter(container=0, counts=0)
    for tensor in tensors:
        k, n = tensor.outlier_places()
        plain = container.Decoded(tensor.centroids[0], tensor.unpacked(), k, n, tensor.values)
        data = container.encode(plain, tensor.bits)
        check_container(tensor, data)
        blocks = -(-tensor.rows // container.SIDE) * -(-tensor.columns // container.SIDE)
        indices = blocks * container.SIDE**2 * tensor.bits // 8
        sizes["container"] += len(data)
        sizes["counts"] += len(data) - tensor.centroids.nbytes - indices - 5 * tensor.values.size
    return dict(sizes)


def check_container(tensor: GoboTensor, data: bytes) -> None:
    """Decode a container and hold it against the tensor it was made of."""
    back = container.decode(data, tensor.bits, tensor.rows, tensor.columns)
    weights = back.centroids[back.indices]
    weights[back.rows, back.columns] = back.values
    if not np.array_equal(weights, tensor.decode()):
        raise AssertionError("a container does not decode to the tensor it was made of")


def float_parameters(path: Path) -> int:
    """Elements of all float32 initializers of a file that are not scalars."""
    tensors = onnx.load(path).graph.initializer
    return sum(
        int(np.prod(t.dims)) for t in tensors if t.data_type == onnx.TensorProto.FLOAT and t.dims
    )


def real_model(title: str, path: Path, folder: Path) -> tuple[dict[str, Any], list[Target]]:
    """Bits per weight of a real model, and its compiled file byte by byte."""
    output = folder / "compiled.onnx"
    compiled, tensors = encode_file(path, "gobo", output)
    report = compiled.report
    weights = sum(t.rows * t.columns for t in tensors)
    nominal = sum(t.bits * t.rows * t.columns for t in tensors) / weights
    bits = 8 * sum(t.nbytes for t in tensors) / weights
    sizes = path.stat().st_size, output.stat().st_size
    show(
        f"{title}, gobo",
        ("FP32 file", "compiled", "ratio", "weights", "outliers", "nominal bits", "bits"),
        [
            (f"{sizes[0]:,}", f"{sizes[1]:,}", f"{sizes[0] / sizes[1]:.3f}", f"{weights:,}")
            + (f"{report.totals.outlier_share:.4%}", f"{nominal:.4f}", f"{bits:.4f}")
        ],
    )
    parts = account(output, report)
    show(f"{title}: the compiled file", *account_rows(parts))
    show(f"{title}: what stays in FP32", *unquantized_rows(parts))
    results = {
        "fp32_file_bytes": sizes[0],
        "file_bytes": sizes[1],
        "file_ratio": sizes[0] / sizes[1],
        "weights": weights,
        "outlier_share": report.totals.outlier_share,
        "nominal_bits": nominal,
        "bits_per_weight": bits,
        "file": parts,
    }
    return results, [Target(f"{title}: bits per weight", bits, "<=", nominal + 0.2)]


if __name__ == "__main__":
    main()
