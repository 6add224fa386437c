"""The tables that a compile ends with."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import takewhile

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sardonyx.compiler.report import (
    ActivationEntry,
    CalibrationEntry,
    CompileReport,
    OutputEntry,
    PassEntry,
    TensorEntry,
    Totals,
    VerificationEntry,
)

_MOST_ROWS = 8
"""With more tensors than this, those that are alike share a row."""

_SLICE = re.compile("/group[0-9]+_*$")
"""How the names of products by slices end."""

_WIDE = 100
"""Columns of a screen on which a range of values fits one line."""


def print_report(report: CompileReport, console: Console) -> None:
    """Tensors, or the passes where none was quantized; totals, coverage, skips, ops that stayed."""
    changed = [run for run in report.passes if run.rewrites]
    if report.tensors:
        console.print(tensor_table(report.tensors, console.width))
    elif changed:
        console.print(passes_table(changed))
    totals = report.totals
    if totals.weights_quantized:
        share = totals.weights_quantized / totals.weights
        outliers = f"; {totals.outlier_share:.3%} are outliers" if totals.outlier_share else ""
        console.print(
            f"Quantized {totals.weights_quantized:,} of {totals.weights:,} weights ({share:.3%}) "
            f"to {totals.bits_per_weight:.2f} bits each{outliers}."
        )
    elif report.skipped:
        console.print("Quantized nothing.")
    if report.activations:
        console.print(escape(_activations(report.activations, totals)))
    print_decided([f"{e.by} chose {e.what}: {e.reason}" for e in report.decided], console)
    if report.calibration:
        console.print(escape(_calibrated(report.calibration)))
    print_left_alone(_by_reason(report), console)
    print_fused(report, console)
    print_kept(report, console)
    console.print(_checked(report.verification, bool(report.activations)))
    for output in report.verification.outputs:
        console.print(escape(_kept(output)))
    ratio = f"{totals.ratio:.2f}"
    smaller = f", {ratio} times smaller" if float(ratio) > 1 else ""
    console.print(
        f"[bold]{megabytes(totals.bytes_before)} -> {megabytes(totals.bytes_after)}{smaller}[/], "
        f"in {report.seconds:.1f} s."
    )


def _calibrated(done: CalibrationEntry) -> str:
    """What activations were measured on, in a sentence or two."""
    kind = "random samples" if done.random else f"samples of {done.source}"
    text = f"Measured activations on {done.samples} {kind}, in {done.seconds:.1f} s"
    text += f" ({done.resumed} went on from an interrupted compile)." if done.resumed else "."
    return text + " Their ranges are not those of real data!" if done.random else text


def _kept(output: OutputEntry) -> str:
    """What became of an output, in a sentence."""
    loss = "exact" if output.sqnr_db is None else f"SQNR {output.sqnr_db:.1f} dB"
    return f"Output '{output.name}' beside the source's: {loss}, cosine {output.cosine:.4f}."


def _activations(entries: list[ActivationEntry], totals: Totals) -> str:
    """What activations were rounded to, and where, in a sentence or two."""
    methods = _counted(entry.method for entry in entries)
    formats = _counted(entry.format for entry in entries)
    losses = [e.product_sqnr_db for e in entries if e.product_sqnr_db is not None]
    text = f"Rounded {len(entries)} activations to {formats.removeprefix(f'{len(entries)} ')}"
    text += f": {methods}"
    text += f"; their products {span(losses, '{:.1f}', ' dB')}." if losses else "."
    if not totals.activations:
        return text
    share = totals.activations_xhy / totals.activations
    return text + (
        f" {totals.activations} (groups of one as one) are rounded as they are written back, "
        f"{totals.activations_xhy} of them ({share:.1%}) x, h and y of feed-forward networks."
    )


def _counted(names: Iterable[str]) -> str:
    """As "3 min-max, 2 ema"."""
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())


def _checked(checked: VerificationEntry, rounded: bool) -> str:
    """What was checked, in a sentence. ``rounded``: activations are."""
    if checked.level == "off":
        return "Not checked (--verify off)."
    alike = checked.regions - checked.regions_run - len(checked.unchecked)
    done = f"Checked: {checked.regions_run} of {checked.regions} rewritten places, before and after"
    done += f" ({alike} more are like one of these)" if alike else ""
    done += f", {len(checked.unchecked)} could not be" if checked.unchecked else ""
    done += f"; {checked.tensors_decoded} weights decoded." if checked.tensors_decoded else "."
    if checked.model_difference is not None:
        models = "Up to the rounding of activations, whole models" if rounded else "Whole models"
        done += f" {models} differ by {checked.model_difference:.2g} at most."
    return done


def print_decided(sentences: Iterable[str], console: Console) -> None:
    """A line for each thing that a pass chose."""
    for sentence in sentences:
        console.print(f"{escape(sentence)}.")


def print_left_alone(reasons: Mapping[str, list[str]], console: Console) -> None:
    """A line for each reason, with the first names."""
    for reason, names in reasons.items():
        console.print(f"Left alone {len(names)}: {escape(reason)}: {_first(names)}")


def print_fused(report: CompileReport, console: Console) -> None:
    """What became one op, and a line for each reason why something did not."""
    if report.fused:
        counts = Counter(entry.op for entry in report.fused)
        replaced = sum(entry.replaced for entry in report.fused)
        ops = ", ".join(f"{count} {op}" for op, count in counts.items())
        console.print(f"Fused {replaced} nodes into {len(report.fused)}: {escape(ops)}.")
    missed: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in report.not_fused:
        missed[entry.by, entry.reason].append(entry.node)
    for (by, reason), names in missed.items():
        console.print(f"{by} left {len(names)}: {escape(reason)}: {_first(names)}")


def print_kept(report: CompileReport, console: Console) -> None:
    """A line for each op that stayed though the target wants standard ops, and each reason."""
    kept: dict[tuple[str, str], list[str]] = defaultdict(list)
    for entry in report.kept_ops:
        kept[entry.op, entry.reason].append(entry.node)
    for (op, reason), names in kept.items():
        line = f"Not standard: {len(names)} {op}, which stay: {reason}"
        console.print(f"{escape(line)}: {_first(names)}")


def _first(names: list[str]) -> str:
    return f"[dim]{escape(', '.join(names[:2]) + (', ...' if len(names) > 2 else ''))}[/]"


def megabytes(count: int) -> str:
    """Bytes as people read them (1 MB = 10^6 bytes)."""
    return f"{count / 1e6:,.2f} MB" if count >= 10_000 else f"{count:,} B"


def passes_table(runs: Iterable[PassEntry]) -> Table:
    """A row for each pass."""
    table = Table(title="Passes", title_justify="left")
    for name in ("pass", "rewrites", "nodes before", "nodes after"):
        table.add_column(name, justify="left" if name == "pass" else "right")
    for run in runs:
        counts = (run.rewrites, run.nodes_before, run.nodes_after)
        table.add_row(run.name, *map(str, counts))
    return table


def tensor_table(tensors: list[TensorEntry], width: int) -> Table:
    """A row for each encoded weight, its slices together, for a screen of ``width`` columns; those
    alike share one where there are many."""
    table = Table(title="Quantized weights", title_justify="left")
    table.add_column("weight of", overflow="fold")
    outliers = any(tensor.outliers for tensor in tensors)
    names = ("op", "bits", *(("outliers",) if outliers else ()), "SQNR", "before", "after")
    for name in names:
        spans = name in ("outliers", "SQNR")
        table.add_column(
            name,
            justify="left" if name == "op" else "right",
            no_wrap=not spans,
            max_width=8 if spans and width < _WIDE else None,
        )
    shared = _shared_folder([tensor.node for tensor in tensors])
    weights: dict[str, list[TensorEntry]] = defaultdict(list)
    for tensor in tensors:
        weights[tensor.slice_of or tensor.name].append(tensor)
    groups: dict[object, list[list[TensorEntry]]] = defaultdict(list)
    for name, slices in weights.items():
        before = sum(tensor.bytes_before for tensor in slices)
        alike = (slices[0].op, slices[0].bits, before, len(slices))
        groups[alike if len(weights) > _MOST_ROWS else name].append(slices)
    for together in groups.values():
        group = [tensor for slices in together for tensor in slices]
        first = group[0]
        table.add_row(
            escape(_label(together, shared)),
            first.op,
            str(first.bits),
            *([span((t.outlier_share for t in group), "{:.2f}", "%", 100)] if outliers else []),
            span((t.sqnr_db for t in group if t.sqnr_db is not None), "{:.1f}", " dB"),
            megabytes(sum(t.bytes_before for t in group)),
            megabytes(sum(t.bytes_after for t in group)),
        )
    return table


def activation_table(
    activations: list[ActivationEntry], tensors: list[TensorEntry], width: int
) -> Table:
    """A row for each rounded activation, for a screen of ``width`` columns; those alike share one
    where there are many: of one kind or role, where they are rounded as they are written back.
    ``tensors``: the weights that they meet."""
    table = Table(title="Rounded activations", title_justify="left")
    table.add_column("activation", overflow="fold")
    for name in ("to", "method", "class", "range", "products"):
        narrow = name in ("range", "products") and width < _WIDE
        table.add_column(name, no_wrap=not narrow, max_width=8 if narrow else None)
    shared = _shared_folder([one.name for one in activations])
    roles = {tensor.node: tensor.role.replace("_", " ") for tensor in tensors}
    groups: dict[object, list[ActivationEntry]] = defaultdict(list)
    for one in activations:
        alike = (one.format, one.kind or one.role or (one.method, one.class_))
        groups[alike if len(activations) > _MOST_ROWS else one.name].append(one)
    for group in groups.values():
        met = dict.fromkeys(roles.get(one.node, "") for one in group)
        like = group[0].name.removeprefix(shared)
        if len(group) > 1 and group[0].role:
            like = _written(group)
        elif len(group) > 1:
            like = f"{len(group)} for {', '.join(met)}" if all(met) else f"{len(group)} like {like}"
        table.add_row(escape(like), *map(escape, _rounding(group)))
    return table


def _written(group: list[ActivationEntry]) -> str:
    """How many activations of one kind or role there are, and in how many groups each."""
    parts = Counter(one.whole for one in group)
    what = group[0].kind or group[0].role.replace("_", " ")
    most = max(parts.values())
    return f"{len(parts)} {what}" + (f", in {most} groups" if most > 1 else "")


def _rounding(group: list[ActivationEntry]) -> list[str]:
    """How activations that are alike are rounded."""
    first = group[0]
    ends = [end for one in group for end in one.range or ()]
    losses = [one.product_sqnr_db for one in group if one.product_sqnr_db is not None]
    return [
        first.format.partition("/")[0],
        ", ".join(dict.fromkeys(one.method for one in group)),
        ", ".join(dict.fromkeys(one.class_ for one in group)),
        f"{min(ends):.3g} to {max(ends):.3g}" if ends else "each run's",
        span(losses, "{:.1f}", " dB") if losses else "",
    ]


def _label(weights: list[list[TensorEntry]], shared: str) -> str:
    """The node of one weight, or how many there are and what they are for; in how many slices.
    ``weights``: the slices of each, all alike."""
    first, count, slices = weights[0][0], len(weights), len(weights[0])
    node = _SLICE.sub("", first.node or first.name).removeprefix(shared)
    node, cut = node.removesuffix(f"/{first.op}"), f", cut in {slices}" if slices > 1 else ""
    if count == 1:
        return f"{node}{cut}"
    roles = dict.fromkeys(entry.role.replace("_", " ") for slices in weights for entry in slices)
    each = cut.replace(",", ", each") if cut else ""
    return (f"{count} like {node}" if "other" in roles else f"{count} {', '.join(roles)}") + each


def _shared_folder(names: list[str]) -> str:
    """The start that all of several node paths share, up to a slash."""
    folders = [name.split("/")[:-1] for name in names]
    shared = takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
    return "".join(f"{level[0]}/" for level in shared) if len(names) > 1 else ""


def span(values: Iterable[float], form: str, unit: str, scale: int = 1) -> str:
    """One value, or the least and the greatest."""
    ordered = sorted(values)
    if not ordered:
        return "exact"
    low, high = form.format(ordered[0] * scale), form.format(ordered[-1] * scale)
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _by_reason(report: CompileReport) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = defaultdict(list)
    for skip in report.skipped:
        reasons[skip.reason].append(skip.name)
    return reasons
