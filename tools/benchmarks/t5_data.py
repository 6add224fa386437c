"""flan-t5-small, dynamic INT8, as others published it: its files, its sentences, what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from accuracy import sampled
from numpy.typing import NDArray
from tokenizers import Tokenizer

from sardonyx import models

START, END = 0, 1
"""Tokens of T5: the first that the decoder reads, and the last that it writes."""

MOST_WRITTEN = 24
"""Tokens after which writing stops."""

Array = NDArray[Any]
Feeds = dict[str, Array]


def files() -> dict[str, Path]:
    """Encoder and decoder; the decoder keeps no cache: it reads all tokens so far."""
    found = models.exported_models()
    names = {part: f"flan-t5-small {part}, dynamic INT8" for part in ("encoder", "decoder")}
    return {part: found[name] for part, name in names.items()}


def tokenizer() -> Tokenizer:
    """The one that lies beside the files."""
    return Tokenizer.from_file(str(files()["encoder"].with_name("tokenizer.json")))


def sentences(count: int, held_out: bool) -> list[str]:
    """Movie reviews; those held out are none of the others."""
    data = models.held_out_snippets() if held_out else models.movie_review_sentences()
    return list(sampled(data, count)[0])


def session(path: Path, threads: int = 2) -> ort.InferenceSession:
    """A plain session, quiet."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@dataclass(frozen=True)
class Writer:
    """Both halves of the model, running."""

    encoder: ort.InferenceSession
    decoder: ort.InferenceSession

    @classmethod
    def of(cls, encoder: Path, decoder: Path) -> Writer:
        """From their files."""
        return cls(session(encoder), session(decoder))

    def read(self, ids: Sequence[int]) -> tuple[Feeds, Array]:
        """What the encoder is fed, and its hidden states [1, tokens, 512]."""
        row = np.array([ids], np.int64)
        feeds = {"input_ids": row, "attention_mask": np.ones_like(row)}
        (hidden,) = self.encoder.run(None, feeds)
        return feeds, hidden

    def write(self, hidden: Array) -> list[int]:
        """The likeliest token after the other, from `START` on."""
        written = [START]
        while len(written) < MOST_WRITTEN and written[-1] != END:
            logits = self.logits(decoder_feeds(hidden, written))
            written.append(int(logits[0, -1].argmax()))
        return written

    def logits(self, feeds: Feeds) -> Array:
        """Of the token after each that was written: [1, tokens, vocabulary]."""
        (logits,) = self.decoder.run(None, feeds)
        made: Array = logits
        return made


def decoder_feeds(hidden: Array, written: Sequence[int]) -> Feeds:
    """What the decoder is fed; as it sees no later token, the whole text holds every step."""
    return {
        "input_ids": np.array([written], np.int64),
        "encoder_hidden_states": hidden,
        "encoder_attention_mask": np.ones(hidden.shape[:2], np.int64),
    }


def collect(folder: Path, texts: Sequence[str]) -> dict[str, Path]:
    """Calibration data for both files, as folders of .npz batches: what the published files are fed
    as they read some sentences and write."""
    writer, encode = Writer.of(**files()), tokenizer().encode
    folders = {part: folder / part for part in ("encoder", "decoder")}
    for each in folders.values():
        each.mkdir(parents=True)
    for number, text in enumerate(texts):
        feeds, hidden = writer.read(encode(text).ids)
        np.savez(folders["encoder"] / f"{number:04}.npz", **feeds)
        written = [token for token in writer.write(hidden) if token != END]
        np.savez(folders["decoder"] / f"{number:04}.npz", **decoder_feeds(hidden, written))
    return folders
