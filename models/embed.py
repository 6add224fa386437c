"""Sentence embeddings out of any encoder that can be called."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Feed: TypeAlias = dict[str, NDArray[np.int64]]
Run: TypeAlias = Callable[[Feed], Sequence[NDArray[Any]]]
"""Graph inputs by name -> graph outputs in order, e.g. `partial(session.run, None)`."""


def embed(
    run: Run,
    tokenizer: Tokenizer,
    sentences: Sequence[str],
    *,
    inputs: Collection[str] = ("input_ids", "attention_mask"),
    batch_size: int = 32,
    normalize: bool = True,
) -> NDArray[np.float32]:
    """Embed sentences: float32 `[sentences, hidden]`, in their order.

    Batches hold sentences of like length, the longest first, padded to the longest of the batch.
    The embedding is the first floating-point output: `[batch, hidden]` as it is, or the mean over
    the tokens of `[batch, sequence, hidden]`; with `normalize` it has length 1.

    Args:
        run: the model.
        tokenizer: one that pads to the longest of a batch, on the right.
        sentences: at least one.
        inputs: the graph inputs; of `token_type_ids`, all are 0.
        batch_size: sentences a call.
        normalize: divide by the L2 norm.
    """
    feeds = _tokenize(tokenizer, sentences)
    lengths = feeds["attention_mask"].sum(1)
    order = np.argsort(-lengths, kind="stable")
    pooled = []
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        batch = {name: feeds[name][rows, : lengths[rows[0]]] for name in inputs}
        mask = feeds["attention_mask"][rows, : lengths[rows[0]]]
        pooled.append(_pool(run(batch), mask))
    embeddings = np.concatenate(pooled)[np.argsort(order)]
    if normalize:
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings


def mean_pool(hidden_state: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean of `[batch, sequence, hidden]` over the tokens where `[batch, sequence]` is 1."""
    weights = mask[..., None].astype(np.float32)
    mean: NDArray[np.float32] = (hidden_state * weights).sum(1) / weights.sum(1)
    return mean


def _tokenize(tokenizer: Tokenizer, sentences: Sequence[str]) -> Feed:
    encodings = tokenizer.encode_batch(list(sentences))
    ids = np.array([encoding.ids for encoding in encodings], np.int64)
    mask = np.array([encoding.attention_mask for encoding in encodings], np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def _pool(outputs: Sequence[NDArray[Any]], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    first = next(output for output in outputs if np.issubdtype(output.dtype, np.floating))
    return first if first.ndim == 2 else mean_pool(first, mask)
