"""explain: what a compile did to a tensor or node and why, from the notes in the compiled file."""

import difflib
import itertools
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from sardonyx.compiler.answer import (
    MOST_NAMES,
    ROLES,
    SCALED,
    Answer,
    activation_entry,
    how_rounded,
    label,
    listed,
    packed_names,
    rounding_facts,
    sized,
    weight_answer,
    weight_entry,
    wiring_facts,
)
from sardonyx.compiler.contents import PlacedNode, Stored
from sardonyx.compiler.inventory import Inventory, take_inventory
from sardonyx.compiler.notes import (
    all_weight_notes,
    decided,
    left_alone,
    pass_of,
    recipe_of,
    weight_notes,
)
from sardonyx.compiler.report import ActivationEntry, CompileReport, TensorEntry
from sardonyx.passes.metadata import ORDERED, SMOOTHED
from sardonyx.runtime_ops.errors import InputError


@dataclass(frozen=True)
class Explainer:
    """Answers about one file. ``recipe``: empty if it was not compiled; ``reasons``: why constants
    were left alone, by name."""

    held: Inventory
    recipe: str
    reasons: dict[str, str]

    @property
    def quantized(self) -> list[TensorEntry]:
        """The encoded weights, as a report lists them."""
        return [weight_entry(weight) for weight in self.held.quantized.values()]

    @property
    def activations(self) -> list[ActivationEntry]:
        """The rounded activations, as a report lists them."""
        return [activation_entry(one, self.held) for one in self.held.rounded]

    @property
    def decided(self) -> list[str]:
        """What passes chose by the model's outputs, in a sentence each."""
        return decided(self.held.model)

    @property
    def left_alone(self) -> dict[str, list[str]]:
        """Names of the constants that were left alone, by reason."""
        found: dict[str, list[str]] = defaultdict(list)
        for name, reason in self.reasons.items():
            found[reason].append(name)
        return found

    @property
    def made(self) -> list[Stored]:
        """Of the constants that are neither part of an encoded weight nor left alone for a reason,
        those that only nodes read that passes made."""
        return [tensor for tensor in self._rest if self._maker(tensor.name)]

    @property
    def others(self) -> list[Stored]:
        """The rest of these."""
        return [tensor for tensor in self._rest if not self._maker(tensor.name)]

    @property
    def _rest(self) -> list[Stored]:
        parts = {p.name for w in self.held.quantized.values() for p in w.parts.values()}
        known = parts | self.reasons.keys()
        return [tensor for name, tensor in self.held.tensors.items() if name not in known]

    def _maker(self, name: str) -> str:
        """The pass that made the nodes that read a constant; empty where one was there before."""
        passes = [pass_of(node.node) for node in self.held.readers.get(name, [])]
        return passes[0] if passes and all(passes) else ""

    def about(self, name: str) -> Answer:
        """The answer for a tensor or node, also for one that is gone.

        Raises InputError, with names like it, where the model neither has nor had it.
        """
        ways = (
            self._weight,
            self._activation,
            self._constant,
            self._packed,
            self._sliced,
            self._node,
            self._replaced,
            self._bias,
            self._value,
        )
        names = (name, f"{name}{SMOOTHED}", f"{name}{ORDERED}")
        for each, find in itertools.product(names, ways):
            answer = find(each)
            if answer:
                return answer
        known = sorted(self._names())
        raise InputError(f"'{self.held.path}' has no tensor or node '{name}'{_like(name, known)}")

    def _names(self) -> set[str]:
        weights = {name for w in self.held.quantized.values() for name in w.notes.originals}
        nodes = {node.name for node in self.held.nodes}
        packed = {name for node in self.held.nodes for name in packed_names(node)}
        noted = [notes for w in self.held.quantized.values() for notes, _ in w.uses]
        replaced = {name for notes in noted for name in (notes.replaced_node, notes.bias)}
        values = self.held.tensors.keys() | self.held.readers.keys()
        rounded = {name for one in self.held.rounded for name in one.names}
        return (weights | packed | nodes | replaced | values | rounded) - {""}

    def _weight(self, name: str) -> Answer | None:
        for weight in self.held.quantized.values():
            if name in weight.notes.originals:
                return weight_answer(
                    weight, f"quantized by pass {weight.notes.by} of recipe {self.recipe}"
                )
        shared = [
            (role, weight)
            for weight in self.held.quantized.values()
            for role, part in weight.parts.items()
            if name == part.name
        ]
        if not shared:
            return None
        role, weight = shared[0]
        names = " and ".join(f"'{weight.notes.weight}'" for _, weight in shared)
        if len(shared) == 1:
            return weight_answer(weight, f"{ROLES[role]} of weight {names}")
        facts = [("read by", listed(map(label, weight.nodes)))]
        facts += [("stored as", sized(weight.parts[role]))]
        return Answer(f"{ROLES[role]} of the weights {names}, side by side", facts)

    def _activation(self, name: str) -> Answer | None:
        rounded = next((one for one in self.held.rounded if name in one.names), None)
        if rounded is None:
            return None
        facts = [*rounding_facts(rounded), *self._wiring_of(rounded.node.inputs[0])]
        return Answer(how_rounded(rounded), facts)

    def _constant(self, name: str) -> Answer | None:
        tensor = self.held.tensors.get(name)
        if tensor is None:
            return None
        readers = self.held.readers.get(name, [])
        facts = [("holds", f"{tensor.dtype} {tensor.shape}"), ("bytes", f"{tensor.nbytes:,}")]
        facts += [("smoothed", SCALED)] if name.endswith(SMOOTHED) else []
        facts += [("read by", listed(map(label, readers)))] if readers else []
        return Answer(self._why_not(tensor, readers), facts)

    def _why_not(self, tensor: Stored, readers: list[PlacedNode]) -> str:
        if not self.recipe:
            return "as it came: the model was not compiled by Sardonyx"
        reason = self.reasons.get(tensor.name) or self.reasons.get(tensor.tensor.name)
        if reason:
            return f"left alone: {reason}"
        if made_by := self._maker(tensor.name):
            return f"read by what pass {made_by} of recipe {self.recipe} made"
        return f"not touched: it is read by {label(readers[0]) if readers else 'nothing'}"

    def _packed(self, name: str) -> Answer | None:
        nodes = [node for node in self.held.nodes if name and name in packed_names(node)]
        if not nodes:
            return None
        parts = []
        for node in nodes:
            notes = [note for note in all_weight_notes(node.node) if note]
            weights = [note.weight for note in notes if note.cut_from == name]
            parts += weights or [", ".join(node.inputs[1:])]
        facts = [("parts", listed(parts)), ("read by", listed(map(label, nodes)))]
        return Answer("taken apart: each part is a weight of its own", facts)

    def _sliced(self, name: str) -> Answer | None:
        """Of a matrix whose rows or columns are multiplied some at a time."""
        parts = [w for w in self.held.quantized.values() if name and name == w.notes.slice_of]
        if not parts:
            return None
        facts = [("parts", listed([f"{w.notes.weight}: {w.notes.slice}" for w in parts]))]
        facts += [("read by", listed([label(node) for w in parts for node in w.nodes]))]
        return Answer(f"cut in {len(parts)} slices: each is a weight of its own", facts)

    def _node(self, name: str) -> Answer | None:
        node = next((node for node in self.held.nodes if node.name == name), None)
        if node is None:
            return None
        notes = weight_notes(node.node)
        weights = [weight for weight in self.held.quantized.values() if node in weight.nodes]
        if notes and weights:
            verdict = f"{notes.replaces} became {node.op}"
            if notes.replaces == node.op:
                verdict = f"{node.op}, whose weight became integers"
            return weight_answer(weights[0], verdict)
        if weights:
            facts = [("weights", "\n".join(weight.notes.weight for weight in weights))]
            verdict = f"{node.op}, the products by {len(weights)} weights, merged"
            return Answer(verdict, [*facts, *wiring_facts(node)])
        return Answer(self._untouched(node), wiring_facts(node))

    def _replaced(self, name: str) -> Answer | None:
        """Of a node that became another, alone or with others."""
        for weight in self.held.quantized.values():
            for notes, node in weight.uses:
                if name and name == notes.replaced_node:
                    whole = f"part of {label(node)}" if notes.columns else label(node)
                    return weight_answer(weight, f"{notes.replaces} became {whole}")
        return None

    def _bias(self, name: str) -> Answer | None:
        """Of a constant that was rounded to steps of the product that it is added to."""
        for weight in self.held.quantized.values():
            for notes, node in weight.uses:
                if name and name == notes.bias:
                    facts = [("weight", notes.weight), ("read by", label(node))]
                    verdict = f"rounded to int32 steps of its product, by pass {notes.by}"
                    return Answer(verdict, facts)
        return None

    def _untouched(self, node: PlacedNode) -> str:
        if node.where == "function":
            return f"{node.op}, part of function {node.path}"
        made_by = pass_of(node.node)
        if made_by:
            return f"{node.op}, made by pass {made_by} of recipe {self.recipe}"
        if node.op == "MatMul" and self.recipe.startswith("int8"):
            return "MatMul, not touched: of two activations, which act_act of insert-qdq quantizes"
        return f"{node.op}, not touched: it has no weight that was quantized"

    def _value(self, name: str) -> Answer | None:
        maker = self.held.makers.get(name)
        inputs = {value.name for value in self.held.model.graph.input}
        if maker is None and name not in inputs:
            return None
        facts = self._wiring_of(name)
        verdict = "a value computed when the model runs" if maker else "an input of the model"
        return Answer(verdict, facts)

    def _wiring_of(self, name: str) -> list[tuple[str, str]]:
        maker, readers = self.held.makers.get(name), self.held.readers.get(name, [])
        facts = [("made by", label(maker))] if maker else []
        return facts + ([("read by", listed(map(label, readers)))] if readers else [])


def explainer(path: Path, report: CompileReport | None = None) -> Explainer:
    """An Explainer of a file; ``report``: of the compile that wrote it, if kept.

    Raises InputError where the file is no model or the report is of another one.
    """
    held = take_inventory(path)
    reasons = left_alone(held.model)
    if report:
        noted = {(weight.notes.weight, weight.notes.bits) for weight in held.quantized.values()}
        strange = {(entry.name, entry.bits) for entry in report.tensors} ^ noted
        if strange:
            name, bits = min(strange)
            raise InputError(
                f"the report is not of '{path}': only one of them has '{name}' in {bits} bits"
            )
        reasons |= {skip.name: skip.reason for skip in report.skipped}
    uses = [notes for weight in held.quantized.values() for notes, _ in weight.uses]
    rounded = {notes.bias for notes in uses} - held.tensors.keys()
    reasons = {name: reason for name, reason in reasons.items() if name not in rounded}
    recipe = recipe_of(held.model) or (report.recipe if report else "")
    return Explainer(held, recipe or ("unknown" if held.quantized else ""), reasons)


def _like(name: str, known: list[str]) -> str:
    """A question that names what may be meant; else what to do."""
    holding = [other for other in known if name.lower() in other.lower()]
    close = sorted(holding, key=len) or difflib.get_close_matches(name, known, MOST_NAMES)
    if not close:
        return ": 'sardonyx explain' without a name shows what there is"
    more = f" (and {len(close) - MOST_NAMES} more)" if len(close) > MOST_NAMES else ""
    return f": did you mean {' or '.join(map(repr, close[:MOST_NAMES]))}{more}?"
