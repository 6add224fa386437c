"""The compiler, read from top to bottom: `compile` runs the stages in this order and no other."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import onnx

from sardonyx.compiler.calibrate import Calibration
from sardonyx.compiler.calibration_source import Given
from sardonyx.compiler.check_content import check_names
from sardonyx.compiler.check_model import check_quantizable, check_valid
from sardonyx.compiler.checkpoint import Checkpoint
from sardonyx.compiler.driver import Driver
from sardonyx.compiler.emit import emit
from sardonyx.compiler.fewer_collections import fewer_collections
from sardonyx.compiler.fidelity import fidelity
from sardonyx.compiler.load import load
from sardonyx.compiler.notes import write_notes
from sardonyx.compiler.overridable import note_overridable
from sardonyx.compiler.recipe import Recipe, load_recipe, overridden
from sardonyx.compiler.report import CompileReport
from sardonyx.compiler.summarize import summarize
from sardonyx.compiler.targets import Target, target_named
from sardonyx.compiler.verify import Level, Verification
from sardonyx.compiler.verify_model import check_model
from sardonyx.compiler.write import write_model
from sardonyx.passes.base import Pass
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal, Progress
from sardonyx.passes.kept import kept_ops
from sardonyx.passes.weights import ALREADY, VECTOR
from sardonyx.runtime_ops.errors import InputError

NORMALIZE: tuple[Pass, ...] = (LiftConstants(),)
"""What every graph goes through before the passes of target and recipe."""


@dataclass(frozen=True)
class Compiled:
    """A compiled model and the report of how it came to be.

    ``model``: complete unless its weights exceed 1.9 GB; those that no pass changed stay in the
    input's files then, and `save` copies them. ``sources``: files of the input.
    """

    model: onnx.ModelProto
    report: CompileReport
    sources: frozenset[Path] = frozenset()

    def save(self, path: str | Path) -> None:
        """Write the model; a failure leaves nothing behind and an older file untouched."""
        write_model(self.model, Path(path), self.sources)


Observer = Callable[[str, Driver], None]
"""Called after each stage with its name; what `--dump` hangs on."""


def compile(
    model: str | Path | onnx.ModelProto,
    recipe: str | Path | Recipe,
    calibration: Given | None = None,
    target: str = "portable",
    *,
    tokenizer: str | Path | None = None,
    random_calibration: int = 0,
    checkpoint: str | Path | None = None,
    overrides: Sequence[str] = (),
    verify: Level = "default",
    until: str | None = None,
    progress: Progress | None = None,
    observe: Observer | None = None,
) -> Compiled:
    """Rewrite ``model`` by ``recipe``.

    ``model``: path of an .onnx file, or a model. ``recipe``: a preset's name, a .toml or .py path,
    or a `Recipe`. ``target``: where the result is to run, a name of `TARGETS`; ``portable``: only
    standard ops, as far as there are any. ``overrides``: ``PASS.ARG=VALUE`` for passes of recipe
    and target, as ``raise-opset.to=0``. ``until``: stop rewriting after the pass of this name.

    ``calibration``: what passes measure activations on: an .npz with an array for each input, the
    first axis samples; a folder of such files; a .txt or .jsonl of sentences (at most 256 tokens of
    each), with ``tokenizer``, a tokenizer.json; or batches of arrays by name of input.
    ``random_calibration``: so many samples are made up instead. ``checkpoint``: file that keeps
    what was measured if the compile is interrupted, for the same call to go on from.

    ``verify``: ``default`` runs what each pass changed and unpacks every encoded tensor, ``full``
    also runs both whole models, on the first samples of the calibration data if there is any,
    ``off`` trusts.

    Raises InputError (the model, recipe, target or an argument is wrong) and VerificationError (a
    pass broke its promise).
    """
    held = Checkpoint(Path(checkpoint)) if checkpoint else Checkpoint()
    data = Calibration(calibration, tokenizer, random_calibration, held)
    with held.kept(), fewer_collections():
        return _compile(model, recipe, target, overrides, verify, until, progress, observe, data)


def _compile(
    model: str | Path | onnx.ModelProto,
    recipe: str | Path | Recipe,
    target: str,
    overrides: Sequence[str],
    verify: Level,
    until: str | None,
    progress: Progress | None,
    observe: Observer | None,
    calibration: Calibration,
) -> Compiled:
    start = time.perf_counter()
    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    model = model if isinstance(model, onnx.ModelProto) else Path(model)
    place = Target() if recipe.alone and target == "portable" else target_named(target)
    chosen = place.completed([place.settled(a_pass) for a_pass in recipe.passes])
    owner = f"recipe '{recipe.name}' on target '{target}'"
    chosen = overridden(chosen, overrides, owner)
    place.check(chosen)
    passes = _until((*NORMALIZE, *chosen), until)
    source, graph = load(model, inline_all=place.inline_all)
    journal = Journal(progress) if progress else Journal()
    if any(a_pass.quantizes for a_pass in passes):
        check_quantizable(source.opset)
        note_overridable(source, graph, journal)
    driver = Driver(source, graph, journal, Verification(verify), calibration)
    if observe:
        observe("load", driver)
    for stage in _stages(passes):
        for a_pass in driver.settle(stage):
            if observe:
                observe(a_pass.name, driver)
    _check_purpose(recipe, passes, driver)
    _check_worth(recipe, passes, driver)
    if place.standard:
        journal.kept += kept_ops(graph, {(f.domain, f.name) for f in source.model.functions})
    compiled = emit(source, graph)
    if any(run.rewrites for run in driver.runs):
        write_notes(compiled, recipe.name, journal)
    check_valid(compiled, "the compiled model")
    check_names(compiled, "the compiled model")
    if verify == "full":
        check_model(model, place.inline_all, driver, compiled)
    rounded = journal.activations or any(a_pass.rounds_less for a_pass in passes)
    if verify != "off" and rounded:
        feeds = calibration.first(source, graph)
        driver.verification.outputs = fidelity(model, compiled, feeds) if feeds else []
    report = summarize(recipe, target, driver, compiled, time.perf_counter() - start)
    return Compiled(compiled, report, frozenset(source.files))


def _stages(passes: Sequence[Pass]) -> Iterator[list[Pass]]:
    """Passes that settle together with those that follow them, every other one alone."""
    for settles, run in groupby(passes, key=lambda a_pass: a_pass.settles):
        together = list(run)
        yield from [together] if settles else ([a_pass] for a_pass in together)


def _until(passes: tuple[Pass, ...], until: str | None) -> tuple[Pass, ...]:
    names = [a_pass.name for a_pass in passes]
    if until is None:
        return passes
    if until not in names:
        raise InputError(f"there is no stage '{until}' to stop after: there is {', '.join(names)}")
    return passes[: names.index(until) + 1]


def _check_purpose(recipe: Recipe, passes: tuple[Pass, ...], driver: Driver) -> None:
    """Refuse a model that lacks what a pass of the recipe is for."""
    found = {run.name for run in driver.runs if run.rewrites}
    found |= {miss.by for miss in driver.journal.missed}
    for a_pass in passes:
        if a_pass.pointless and a_pass.name not in found:
            raise InputError(f"recipe '{recipe.name}' has nothing to do: {a_pass.pointless}")


def _check_worth(recipe: Recipe, passes: tuple[Pass, ...], driver: Driver) -> None:
    """Refuse a result in which a quantizing recipe quantized nothing: where weights are quantized
    already, only if it was to round activations too."""
    quantizers = [a_pass for a_pass in passes if a_pass.quantizes]
    if driver.journal.encoded or not quantizers:
        return
    done = next((s for s in driver.journal.skipped if s.reason.startswith(ALREADY)), None)
    if done and any(type(a_pass).watches is not Pass.watches for a_pass in quantizers):
        raise InputError(
            f"the model has nothing left that recipe '{recipe.name}' can quantize: "
            f"'{done.name}' is {done.reason}; compile the floating-point model it was made from"
        )
    if done:
        return
    reasons = [skip.reason for skip in driver.journal.skipped if skip.eligible]
    others = [skip.reason for skip in driver.journal.skipped if not skip.eligible]
    reasons += sorted(others, key=lambda reason: reason == VECTOR)
    why = f" ({reasons[0]})" if reasons else ": no MatMul, Gemm or Gather reads a float matrix"
    raise InputError(f"the model has no weight that recipe '{recipe.name}' can quantize{why}")
