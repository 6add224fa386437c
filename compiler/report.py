"""report: what a compile did, as data. ``--report`` writes it as JSON; this file is its schema."""

from typing import Literal

from pydantic import ConfigDict, Field

from sardonyx.compiler.document import Document, Part


class Totals(Part):
    """The whole file."""

    bytes_before: int = Field(description="bytes of the source, external data included")
    bytes_after: int = Field(description="bytes of the compiled model, external data included")
    ratio: float = Field(description="bytes_before / bytes_after")
    weights: int = Field(
        description="elements of float constants of rank >= 2 that MatMul, Gemm or Gather reads"
    )
    weights_quantized: int = Field(description="those of them that the recipe quantized")
    bits_per_weight: float = Field(
        description="bits in the file for each weight, tied ones once: indices, centroids, outliers"
    )
    outlier_share: float = Field(description="outliers among quantized weights, 0 to 1")
    activations: int = Field(
        default=0, description="rounded as they are written back, the groups of one as one"
    )
    activations_xhy: int = Field(
        default=0, description="x, h and y of feed-forward networks among these"
    )


class TensorEntry(Part):
    """A quantized weight."""

    name: str = Field(description="of the constant in the source")
    node: str = Field(description="first node that reads it")
    op: str = Field(description="op of that node in the source")
    format: str = Field(description="number format, as codebook3/tensor")
    bits: int = Field(description="bits of an index")
    groups: int = Field(description="tables of centroids in the tensor")
    outliers: int = Field(description="weights kept in floating point")
    outlier_share: float = Field(description="outliers among the tensor's weights, 0 to 1")
    sqnr_db: float | None = Field(
        description="signal to quantization noise, 10 log10 of energies; null: nothing was lost"
    )
    bytes_before: int = Field(description="bytes of the source's constants (tied ones included)")
    bytes_after: int = Field(
        description="bytes of all that replaced them; a scale that slices share counts at the first"
    )
    role: str = Field(description="what it is for: query, ffn_in, embedding, ...")
    layer: int | None = Field(description="counted along the graph from 0; null outside layers")
    compute: str = Field(
        default="fp32",
        description="least precision of activations in products by it, fp32 or int8; after a "
        "comma, why int8 was left out",
    )
    slice_of: str = Field(default="", description="matrix that it is some rows or columns of")


class ActivationEntry(Part):
    """A quantized activation; empty for recipes that quantize weights only."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: str
    node: str = Field(description="first node that reads it quantized")
    format: str = Field(description="number format, as uint8/tensor")
    bits: int = Field(description="of a code")
    range: tuple[float, float] | None = Field(
        description="values that do not saturate; null: found at run time"
    )
    method: str = Field(description="how the range was found, as kl-symmetric; or dynamic")
    class_: str = Field(alias="class", description="of its histogram; empty if not measured")
    class_reason: str = Field(default="", description="why it is of that class")
    sqnr_db: float | None = Field(
        description="signal to quantization noise of sampled values; null: nothing lost or measured"
    )
    product_sqnr_db: float | None = Field(
        default=None, description="the same of the products that read it, mean over rows"
    )
    curve: list[tuple[float, float]] = Field(
        default_factory=list, description="thresholds tried and what the method makes least"
    )
    role: str = Field(
        default="", description="what makes it, where it is rounded as that is written back"
    )
    kind: str = Field(
        default="",
        description="of a feed-forward network: x, what it reads, g, what its activation function "
        "makes, h, what it adds, y, the sum; else empty",
    )
    layer: int | None = Field(default=None, description="counted along the graph from 0")
    group: int | None = Field(default=None, description="of channels, counted from 0")
    why_wide: str = Field(default="", description="why it has more than 8 bits")

    @property
    def whole(self) -> str:
        """Its name; of a group of channels what it has in common with the others."""
        return self.name if self.group is None else self.name.replace(f"/group{self.group}", "")


class SkipEntry(Part):
    """A constant that was left alone."""

    name: str
    node: str = Field(description="first node that reads it")
    reason: str
    eligible: bool = Field(description="of a kind the recipe quantizes; --strict refuses these")


class KeptEntry(Part):
    """A node of an op that is not standard, in a model for a target that wants standard ops."""

    node: str
    op: str
    reason: str


class FusionEntry(Part):
    """A formula that became one op."""

    by: str = Field(description="pass that found it")
    node: str = Field(description="node that stands there now")
    op: str = Field(description="op of that node")
    replaced: int = Field(description="nodes whose place it took")
    reason: str = Field(default="", description="why this op, where there was a choice")


class MissEntry(Part):
    """A place that looked like a formula and was left as it is."""

    by: str = Field(description="pass that left it")
    node: str
    reason: str


class DecisionEntry(Part):
    """What a pass chose by trying it on a few calibration samples."""

    by: str = Field(description="the pass")
    what: str
    reason: str = Field(
        description="SQNR of the model's outputs, one way and the other, weights in floats"
    )


class PassEntry(Part):
    """A pass that ran."""

    name: str
    rewrites: int
    nodes_before: int
    nodes_after: int
    seconds: float = Field(description="without the checks on it")


class OutputEntry(Part):
    """An output of the compiled model beside the source's, on the first calibration samples."""

    name: str
    sqnr_db: float | None = Field(description="signal to noise of all values; null: equal")
    cosine: float = Field(description="mean over the vectors along the last axis")


class VerificationEntry(Part):
    """What was checked."""

    level: Literal["off", "default", "full"]
    regions: int = Field(
        description="changed regions of the graph that something reads, over all passes"
    )
    regions_run: int = Field(description="of those, run before against after")
    largest_difference: float = Field(description="relative, over all outputs of those")
    tensors_decoded: int = Field(description="encoded tensors unpacked and held against the source")
    unchecked: list[str] = Field(description="regions that could not be run, and why")
    model_difference: float | None = Field(
        description="full: whole model against the source with decoded weights; where activations "
        "are rounded, as it was before that against the source; else null"
    )
    outputs: list[OutputEntry] = Field(
        default_factory=list, description="where activations are rounded: what became of outputs"
    )


class CalibrationEntry(Part):
    """What activations were measured on."""

    source: str = Field(description="path of the data; 'arrays' if it was in memory, or 'random'")
    samples: int = Field(description="runs of the model: samples, or batches where they are fixed")
    random: bool = Field(description="made up: ranges are not those of real data")
    resumed: int = Field(description="runs, over all measurements, taken from an interrupted one")
    seconds: float = Field(description="of wall time, over all measurements")


class CompileReport(Document):
    """The report of one compile, schema version 1."""

    model: str = Field(description="path of the source")
    recipe: str
    target: str
    totals: Totals
    tensors: list[TensorEntry]
    activations: list[ActivationEntry] = Field(default_factory=list)
    skipped: list[SkipEntry]
    kept_ops: list[KeptEntry] = Field(
        default_factory=list, description="portable: ops of onnxruntime's own that stayed"
    )
    fused: list[FusionEntry] = Field(
        default_factory=list, description="formulas that became one op"
    )
    not_fused: list[MissEntry] = Field(
        default_factory=list, description="places that looked like one of these, and why they stay"
    )
    decided: list[DecisionEntry] = Field(
        default_factory=list, description="what passes chose by the model's outputs"
    )
    passes: list[PassEntry]
    verification: VerificationEntry
    calibration: CalibrationEntry | None = Field(
        default=None, description="null: no pass measured anything"
    )
    seconds: float = Field(description="wall time of the compile")
    peak_rss_bytes: int = Field(description="largest resident memory of the process so far")
