"""summarize: the driver's records become the report."""

import math
from pathlib import Path

import numpy as np
import onnx

from sardonyx.compiler.driver import Driver
from sardonyx.compiler.load import Source
from sardonyx.compiler.messages import initializers, message_bytes
from sardonyx.compiler.recipe import Recipe
from sardonyx.compiler.report import (
    ActivationEntry,
    CalibrationEntry,
    CompileReport,
    DecisionEntry,
    FusionEntry,
    KeptEntry,
    MissEntry,
    OutputEntry,
    PassEntry,
    SkipEntry,
    TensorEntry,
    Totals,
    VerificationEntry,
)
from sardonyx.compiler.stored import stored_bytes
from sardonyx.compiler.verify import Verification
from sardonyx.passes.ffn_blocks import OUTER
from sardonyx.passes.journal import Activation, Encoded


def summarize(
    recipe: Recipe, target: str, driver: Driver, compiled: onnx.ModelProto, seconds: float
) -> CompileReport:
    """The report of a compile that took ``seconds``."""
    journal = driver.journal
    activations = [_activation(one) for one in journal.activations]
    return CompileReport(
        model=str(driver.source.path or driver.source.model.graph.name),
        recipe=recipe.name,
        target=target,
        totals=_totals(driver, compiled, activations),
        tensors=[_tensor(entry) for entry in journal.encoded],
        activations=activations,
        skipped=[SkipEntry(**vars(skip)) for skip in journal.skipped],
        fused=[FusionEntry(**vars(fusion)) for fusion in journal.fused],
        not_fused=[MissEntry(**vars(miss)) for miss in journal.missed],
        kept_ops=[KeptEntry(**vars(kept)) for kept in journal.kept],
        decided=[DecisionEntry(**vars(one)) for one in journal.decided],
        passes=[PassEntry(**vars(run)) for run in driver.runs],
        verification=_verification(driver.verification),
        calibration=_calibration(driver),
        seconds=seconds,
        peak_rss_bytes=peak_rss_bytes(),
    )


def _calibration(driver: Driver) -> CalibrationEntry | None:
    done = driver.calibration
    if done.samples is None or not any(watched for _, watched in driver.ran):
        return None
    return CalibrationEntry(
        source=done.samples.data.source,
        samples=len(done.samples),
        random=done.samples.data.random,
        resumed=done.checkpoint.resumed,
        seconds=done.seconds,
    )


def _totals(
    driver: Driver, compiled: onnx.ModelProto, activations: list[ActivationEntry]
) -> Totals:
    entries = driver.journal.encoded
    before, after = _source_bytes(driver.source), _model_bytes(compiled)
    quantized = sum(_size(view.shape) for entry in entries for view in entry.views)
    distinct = sum(_size(entry.views[0].shape) for entry in entries)
    outliers = sum(entry.tensor.outliers for entry in entries)
    written = {(one.kind, one.whole) for one in activations if one.role}
    return Totals(
        bytes_before=before,
        bytes_after=after,
        ratio=before / after,
        weights=driver.journal.weights,
        weights_quantized=quantized,
        bits_per_weight=8 * sum(e.bytes_after for e in entries) / distinct if distinct else 0.0,
        outlier_share=outliers / distinct if distinct else 0.0,
        activations=len(written),
        activations_xhy=sum(kind in OUTER for kind, _ in written),
    )


def _tensor(entry: Encoded) -> TensorEntry:
    outliers = entry.tensor.outliers
    return TensorEntry(
        name=entry.name,
        node=entry.nodes[0],
        op=entry.op,
        role=entry.place.role,
        layer=entry.place.layer,
        format=str(entry.format),
        bits=entry.format.bits,
        groups=entry.tensor.groups,
        outliers=outliers,
        outlier_share=outliers / _size(entry.views[0].shape),
        sqnr_db=_finite(entry.sqnr_db),
        bytes_before=entry.bytes_before,
        bytes_after=entry.bytes_after,
        compute=entry.compute,
        slice_of=entry.slice_of,
    )


def _activation(one: Activation) -> ActivationEntry:
    return ActivationEntry(
        name=one.name,
        node=one.node,
        format=one.format,
        bits=one.bits,
        range=one.range,
        method=one.method,
        **{"class": one.tensor_class},
        class_reason=one.class_reason,
        sqnr_db=_finite(one.sqnr_db),
        product_sqnr_db=_finite(one.product_sqnr_db),
        curve=list(one.curve),
        role=one.role,
        kind=one.kind,
        layer=one.layer,
        group=one.group,
        why_wide=one.why_wide,
    )


def _verification(done: Verification) -> VerificationEntry:
    outputs = [
        OutputEntry(name=one.name, sqnr_db=_finite(one.sqnr_db), cosine=one.cosine)
        for one in done.outputs
    ]
    return VerificationEntry(**vars(done) | {"outputs": outputs})


def _finite(db: float | None) -> float | None:
    return db if db is not None and math.isfinite(db) else None


def _size(shape: tuple[int, int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _source_bytes(source: Source) -> int:
    """The model's file and what its initializers take in others."""
    if source.path is None:
        return _model_bytes(source.model)
    return source.path.stat().st_size + sum(span.length for span in source.external)


def _model_bytes(model: onnx.ModelProto) -> int:
    """Bytes once written; of weights alone where they are to lie in another file."""
    weights = sum(map(stored_bytes, initializers(model)))
    return weights if weights > 1 << 30 else message_bytes(model)


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far (its own, not its parent's before exec)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not report VmHWM")
