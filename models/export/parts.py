"""The parts a model is exported in: what each takes, what it gives, and which axes may vary.

An encoder or a decoder is one part; an encoder-decoder is an encoder, a decoder of the first tokens
and, with past, a decoder of those after them. Inputs and outputs are named as optimum names them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count, takewhile
from typing import Any

from sardonyx.models.export.directory import WITH_PAST, ExportError
from sardonyx.models.optional import optional

Tensors = dict[str, Any]
Axes = Mapping[int, str]

BATCH, SEQUENCE, PAST, SOURCE = 2, 5, 3, 7
"""Sizes of the examples: no two alike, lest an exporter take one for another."""

_BATCH: Axes = {0: "batch_size"}
_SEQUENCE: Axes = {0: "batch_size", 1: "sequence_length"}
_SOURCE: Axes = {0: "batch_size", 1: "encoder_sequence_length"}
_TOTAL = "past_sequence_length + sequence_length"
_BOTH: Axes = {0: "batch_size", 1: _TOTAL}
_HEADS: Axes = {0: "batch_size", 2: "sequence_length"}
_HEADS_PAST: Axes = {0: "batch_size", 2: "past_sequence_length"}
_HEADS_BOTH: Axes = {0: "batch_size", 2: _TOTAL}
_HEADS_SOURCE: Axes = {0: "batch_size", 2: "encoder_sequence_length"}

_AXES: Mapping[str, Axes] = {
    "input_features": _BATCH,
    "encoder_hidden_states": _SOURCE,
    "encoder_attention_mask": _SOURCE,
    "past_key_values": _HEADS_PAST,
    "past_key_values.decoder": _HEADS_PAST,
    "past_key_values.encoder": _HEADS_SOURCE,
    "present": _HEADS_BOTH,
    "present.decoder": _HEADS,
    "present.encoder": _HEADS_SOURCE,
}
"""The axes that may vary, by name without the layer's number and `key` or `value`; else
`_SEQUENCE`."""

_SEVERAL_PARTS = ("text2text-generation", "automatic-speech-recognition", "feature-extraction")

_OUTPUTS = ("last_hidden_state", "logits", "start_logits", "end_logits")


@dataclass(frozen=True)
class Part:
    """``run`` takes tensors by name, such as the examples in ``inputs``, and gives its outputs so.

    ``axes``: exceptions to the usual names of the axes that may vary.
    """

    name: str
    run: Callable[[Tensors], Tensors]
    inputs: Tensors
    axes: Mapping[str, Axes] = field(default_factory=dict)

    def axes_of(self, name: str) -> dict[int, str]:
        """The axes of an input or output that may vary, and their names."""
        kind = re.sub(r"\.\d+|\.key|\.value", "", name)
        return dict(self.axes.get(kind) or _AXES.get(kind, _SEQUENCE))


def parts_of(model: Any, task: str) -> list[Part]:
    """The parts that a task wants of a model, in the order they run."""
    past, kind = task.endswith(WITH_PAST), task.removesuffix(WITH_PAST)
    if model.config.is_encoder_decoder:
        if kind not in _SEVERAL_PARTS:
            raise ExportError(
                f"the torch route exports an encoder-decoder for {', '.join(_SEVERAL_PARTS)} only, "
                f"not for {task}"
            )
        parts = [_encoder(model), _decoder(model)]
        return [*parts, _decoder_with_past(model)] if past else parts
    return [_causal_with_past(model) if past else _plain(model, kind)]


def _plain(model: Any, kind: str) -> Part:
    """A sentence in; its features or scores out."""
    inputs = {"input_ids": _ids(SEQUENCE), "attention_mask": _ids(SEQUENCE)}
    if kind == "text-generation":
        inputs |= _where_taken(model, "position_ids")
    elif getattr(model.config, "type_vocab_size", 0) > 1:
        inputs |= _where_taken(model, "token_type_ids")

    def run(values: Tensors) -> Tensors:
        return _named(model(**values))

    outputs = run(inputs)
    one_score = "logits" in outputs and outputs["logits"].dim() == 2
    return Part("", run, inputs, {"logits": _BATCH} if one_score else {})


def _causal_with_past(model: Any) -> Part:
    """Tokens, and the keys and values of those before them, if any, in; scores, and both, out.

    Positions are an input: a batch of prompts is padded on the left.
    """
    inputs = {"input_ids": _ids(SEQUENCE), "attention_mask": _ids(PAST + SEQUENCE)}
    inputs |= _where_taken(model, "position_ids")
    before = model(input_ids=_ids(PAST)).past_key_values

    def run(values: Tensors) -> Tensors:
        plain = {name: value for name, value in values.items() if "." not in name}
        outputs = model(**plain, past_key_values=_cache(values))
        return _named(outputs) | _flat(outputs.past_key_values, "present")

    return Part("", run, inputs | _flat(before, "past_key_values"), {"attention_mask": _BOTH})


def _encoder(model: Any) -> Part:
    """A sentence or speech in; its hidden states out."""
    encoder = model.get_encoder()

    def run(values: Tensors) -> Tensors:
        return _named(encoder(**values))

    if _hears(model):
        return Part("encoder", run, _speech(model.config), {"last_hidden_state": _BATCH})
    return Part("encoder", run, {"input_ids": _ids(SOURCE), "attention_mask": _ids(SOURCE)})


def _decoder(model: Any) -> Part:
    """First tokens and hidden states in; scores, and all keys and values where wanted, out."""
    hidden = optional("torch").zeros(BATCH, SOURCE, model.config.hidden_size)
    inputs = {"input_ids": _ids(SEQUENCE), "encoder_hidden_states": hidden} | _mask(model)

    def run(values: Tensors) -> Tensors:
        outputs = _decode(model, values, values["encoder_hidden_states"], None)
        return _named(outputs) | _flat(outputs.past_key_values, "present")

    return Part("decoder", run, inputs)


def _decoder_with_past(model: Any) -> Part:
    """A token and all keys and values in; scores, and the decoder's keys and values, out."""
    first = _decoder(model)
    inputs = {"input_ids": _ids(1)} | _mask(model)
    inputs |= {
        name.replace("present", "past_key_values"): value
        for name, value in first.run(first.inputs).items()
        if name.startswith("present.")
    }

    def run(values: Tensors) -> Tensors:
        keys = values["past_key_values.0.encoder.key"]
        unread = keys.new_zeros(keys.shape[0], keys.shape[2], model.config.hidden_size)
        outputs = _decode(model, values, unread, _both_caches(values))
        present = _flat(outputs.past_key_values, "present")
        return _named(outputs) | {n: v for n, v in present.items() if ".decoder." in n}

    axes = {"input_ids": _BATCH, "logits": _BATCH, "present.decoder": _HEADS_BOTH}
    return Part("decoder_with_past", run, inputs, axes)


def _decode(model: Any, values: Tensors, hidden: Any, cache: Any) -> Any:
    outputs = optional("transformers.modeling_outputs")
    mask = values.get("encoder_attention_mask")
    return model(
        decoder_input_ids=values["input_ids"],
        encoder_outputs=outputs.BaseModelOutput(last_hidden_state=hidden),
        past_key_values=cache,
        **({} if mask is None else {"attention_mask": mask}),
    )


def _hears(model: Any) -> bool:
    return bool(model.main_input_name == "input_features")


def _speech(config: Any) -> Tensors:
    """Speech of the one length that the model takes."""
    shape = (BATCH, config.num_mel_bins, 2 * config.max_source_positions)
    return {"input_features": optional("torch").zeros(shape)}


def _mask(model: Any) -> Tensors:
    return {} if _hears(model) else {"encoder_attention_mask": _ids(SOURCE)}


def _where_taken(model: Any, name: str) -> Tensors:
    return {name: _ids(SEQUENCE)} if name in inspect.signature(model.forward).parameters else {}


def _ids(length: int) -> Any:
    """Ones: a token, a position, a sentence or "look here", as the input's name may be."""
    torch = optional("torch")
    return torch.ones(BATCH, length, dtype=torch.int64)


def _named(outputs: Any) -> Tensors:
    return {name: outputs[name] for name in _OUTPUTS if name in outputs}


def _flat(cache: Any, prefix: str) -> Tensors:
    """The keys and values of a cache by their names; none of no cache."""
    if cache is None:
        return {}
    if hasattr(cache, "cross_attention_cache"):
        sides = {".decoder": cache.self_attention_cache, ".encoder": cache.cross_attention_cache}
    else:
        sides = {"": cache}
    return {
        f"{prefix}.{at}{side}.{kind}": getattr(layer, f"{kind}s")
        for side, half in sides.items()
        for at, layer in enumerate(half.layers)
        for kind in ("key", "value")
    }


def _both_caches(values: Tensors) -> Any:
    caches = _cache(values, ".decoder"), _cache(values, ".encoder")
    return optional("transformers").EncoderDecoderCache(*caches)


def _cache(values: Tensors, side: str = "") -> Any:
    """The cache that holds the keys and values of this name."""
    cache = optional("transformers").DynamicCache()
    for at in takewhile(lambda at: f"past_key_values.{at}{side}.key" in values, count()):
        name = f"past_key_values.{at}{side}"
        cache.update(values[f"{name}.key"], values[f"{name}.value"], at)
    return cache
