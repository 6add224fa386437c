"""The sentences that ranges are measured on, in the forms that ours and the peers take."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from accuracy import sampled
from common import SUBJECTS
from numpy.typing import NDArray

from sardonyx import models

CALIBRATION = 256
"""Sentences of movie reviews, of both labels; no held-out snippet is among them."""

BATCH = 32

Feed = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Sentences:
    """``subject``: whose tokenizer. ``inputs``: of its file."""

    subject: str
    inputs: tuple[str, ...]
    sentences: tuple[str, ...]

    @classmethod
    def of(cls, subject: str, path: Path, most: int | None, count: int = CALIBRATION) -> Sentences:
        """``count`` training sentences, or ``most`` if that is less, for a subject's file."""
        inputs = tuple(value.name for value in onnx.load(path).graph.input)
        count = min(count, most or count)
        return cls(subject, inputs, tuple(sampled(models.movie_review_sentences(), count)[0]))

    @cached_property
    def tokenizer(self) -> Any:
        """Of the subject."""
        make = SUBJECTS[self.subject].tokenizer
        assert make is not None
        return make()

    def written(self, folder: Path) -> tuple[Path, Path]:
        """A file with a sentence a line, and the tokenizer."""
        text, tokenizer = folder / "sentences.txt", folder / "tokenizer.json"
        text.write_text("\n".join(self.sentences) + "\n", encoding="utf-8")
        self.tokenizer.save(str(tokenizer))
        return text, tokenizer

    def batches(self, size: int) -> list[Feed]:
        """So many sentences a batch, padded to its longest; of one nothing is padding."""
        feeds = []
        for at in range(0, len(self.sentences), size):
            feed = self._feed(self.sentences[at : at + size])
            longest = int(feed["attention_mask"].sum(1).max())
            feeds.append({name: rows[:, :longest] for name, rows in feed.items()})
        return feeds

    def padded(self) -> list[Feed]:
        """Batches of `BATCH` sentences that all have the length of the longest sentence; what does
        not fill a batch is left out."""
        feed = self._feed(self.sentences)
        longest = int(feed["attention_mask"].sum(1).max())
        size = min(BATCH, len(self.sentences))
        return [
            {name: rows[at : at + size, :longest] for name, rows in feed.items()}
            for at in range(0, len(self.sentences) - size + 1, size)
        ]

    def _feed(self, sentences: tuple[str, ...]) -> Feed:
        rows = self.tokenizer.encode_batch(list(sentences))
        ids = np.array([row.ids for row in rows], np.int64)
        mask = np.array([row.attention_mask for row in rows], np.int64)
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return {name: feed[name] for name in self.inputs}
