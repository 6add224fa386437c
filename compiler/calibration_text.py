"""Sentences as calibration data: a .txt with one a line, or a .jsonl with an object a line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from tokenizers import Encoding, Tokenizer

from sardonyx.compiler.calibration_data import Data, Inputs, Row
from sardonyx.compiler.check_model import first_line
from sardonyx.compiler.cut import Feeds
from sardonyx.compiler.model_inputs import ModelInput
from sardonyx.runtime_ops.errors import InputError

MOST_TOKENS = 256
"""Longer sentences are cut off, earlier where the tokenizer's file or the model says so."""

_FILLED = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class Sentences(Data):
    """A file of sentences and the tokenizer.json that makes token ids of them.

    Fills the inputs input_ids, attention_mask and token_type_ids. Lines that hold nothing do not
    count.
    """

    source: str
    tokenizer: Path
    hint: ClassVar[str] = "the tokenizer is of another model"

    def rows(self, inputs: Inputs) -> Iterator[Row]:
        for one in inputs:
            if one.name not in _FILLED:
                raise InputError(
                    f"sentences fill the inputs {', '.join(_FILLED)}, and the model also wants "
                    f"'{one.name}': give its inputs as an .npz file"
                )
        tokenizer = _loaded(self.tokenizer)
        own = (tokenizer.truncation or {}).get("max_length", MOST_TOKENS)
        length = _fixed_length(inputs)
        tokenizer.enable_truncation(min(own, length or MOST_TOKENS))
        pad = (tokenizer.padding or {}).get("pad_id", 0)
        tokenizer.no_padding()
        for number, sentence in self._sentences():
            label = f"'{self.source}', line {number}"
            encoding = _encoded(tokenizer, sentence, label)
            yield Row(label, _feeds(encoding, inputs, length, pad))

    def _sentences(self) -> Iterator[tuple[int, str]]:
        """Each sentence with the number of its line."""
        try:
            with Path(self.source).open(encoding="utf-8-sig") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, self._sentence(line, number)
        except OSError as error:
            raise InputError(f"cannot read '{self.source}': {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"'{self.source}' is not UTF-8 text") from error

    def _sentence(self, line: str, number: int) -> str:
        if Path(self.source).suffix != ".jsonl":
            return line.strip()
        try:
            found = json.loads(line)
        except ValueError as error:
            raise InputError(f"'{self.source}', line {number} is not JSON: {error}") from error
        text = found.get("text") if isinstance(found, dict) else found
        if not isinstance(text, str):
            raise InputError(
                f"'{self.source}', line {number}: there is no string, and no object with a \"text\""
            )
        return text


def _loaded(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from error
    except Exception as error:  # the library raises nothing more precise
        raise InputError(f"'{path}' is not a tokenizer.json: {first_line(error)}") from error


def _encoded(tokenizer: Tokenizer, sentence: str, label: str) -> Encoding:
    try:
        encoding = tokenizer.encode(sentence)
    except Exception as error:  # the library raises nothing more precise
        raise InputError(f"{label}: the tokenizer fails on it: {first_line(error)}") from error
    if not encoding.ids:
        raise InputError(f"{label}: the tokenizer makes no token of it")
    return encoding


def _fixed_length(inputs: Inputs) -> int | None:
    """Tokens in a sentence, if the model's shapes fix them."""
    lengths = [one.dims[1] for one in inputs if one.dims and len(one.dims) == 2]
    return next((length for length in lengths if isinstance(length, int)), None)


def _feeds(encoding: Encoding, inputs: Inputs, length: int | None, pad: int) -> Feeds:
    known = {
        "input_ids": encoding.ids,
        "attention_mask": [1] * len(encoding.ids),
        "token_type_ids": encoding.type_ids,
    }
    return {one.name: _row(one, known[one.name], length, pad) for one in inputs}


def _row(one: ModelInput, tokens: list[int], length: int | None, pad: int) -> np.ndarray:
    missing = (length or len(tokens)) - len(tokens)
    filler = pad if one.name == "input_ids" else 0
    return np.array([tokens + [filler] * missing], one.dtype)
