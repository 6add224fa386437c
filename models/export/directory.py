"""A Hugging Face model directory as a PyTorch model, and the task it was made for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sardonyx.models.optional import optional

WITH_PAST = "-with-past"


class ExportError(ValueError):
    """A model cannot be exported; the message is one sentence that says why and what to do."""


@dataclass(frozen=True)
class Task:
    """How a task is known to transformers: its auto class, and the classes it is made for."""

    loader: str
    classes: str
    past: bool = False


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "feature-extraction": Task("AutoModel", "MODEL_MAPPING_NAMES"),
        "text-classification": Task(
            "AutoModelForSequenceClassification", "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"
        ),
        "token-classification": Task(
            "AutoModelForTokenClassification", "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES"
        ),
        "question-answering": Task(
            "AutoModelForQuestionAnswering", "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES"
        ),
        "automatic-speech-recognition": Task(
            "AutoModelForSpeechSeq2Seq", "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES", past=True
        ),
        "text2text-generation": Task(
            "AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES", past=True
        ),
        "text-generation": Task(
            "AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES", past=True
        ),
        "fill-mask": Task("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),
    }
)
"""The tasks; one with ``past`` also goes by its name with `-with-past`, and does so by default.

A class made for several tasks, as BART's is for filling masks too, is taken for the first."""

TASK_NAMES = (*TASKS, *(name + WITH_PAST for name, task in TASKS.items() if task.past))


def find_task(directory: Path) -> str:
    """The task of the architecture that `config.json` names, with past where there is one."""
    config = read_config(directory)
    kind, names = config["model_type"], config.get("architectures")
    architecture = names[0] if isinstance(names, list) and names else "none"
    auto = optional("transformers.models.auto.modeling_auto")
    for name, task in TASKS.items():
        classes = getattr(auto, task.classes).get(kind, ())
        if architecture in (classes if isinstance(classes, tuple) else (classes,)):
            return name + WITH_PAST if task.past else name
    raise ExportError(
        f"'{directory}' has the architecture {architecture} of model type {kind}, of which no "
        f"task is known: give --task, one of {', '.join(TASK_NAMES)}"
    )


def load_model(directory: Path, task: str, attention: str | None) -> Any:
    """The model in evaluation mode, FP32, from local files only, all its weights read.

    Raises:
        ExportError: it cannot be read, or lacks weights that the task needs.
    """
    loader = getattr(optional("transformers"), TASKS[task.removesuffix(WITH_PAST)].loader)
    settings = {"attn_implementation": attention} if attention else {}
    try:
        model, loaded = loader.from_pretrained(
            directory,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            dtype=optional("torch").float32,
            **settings,
        )
    except Exception as error:
        how = f" with {attention} attention" if attention else ""
        raise ExportError(
            f"'{directory}' cannot be loaded{how}: {first_sentence(error)}"
        ) from error
    missing = sorted(loaded["missing_keys"])
    if task == "feature-extraction":  # of which a pooler is no part
        missing = [name for name in missing if not name.startswith("pooler.")]
    if missing:
        raise ExportError(
            f"'{directory}' lacks {len(missing)} weights that task {task} needs, the first "
            f"'{missing[0]}': give the --task it was trained for"
        )
    model.config.use_cache = task.endswith(WITH_PAST)
    return model.eval()


def first_sentence(error: BaseException) -> str:
    """The first sentence of what an error says, without its full stop."""
    text = re.split(r"\.?\s*\n|\.\s|\.$", str(error).strip())[0]
    return text or type(error).__name__


def read_config(directory: Path) -> dict[str, Any]:
    """What `config.json` holds; raises ExportError where that is not a model's."""
    path = directory / "config.json"
    if not path.is_file():
        raise ExportError(f"'{directory}' is not a Hugging Face model directory: no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"'{path}' is not JSON: {first_sentence(error)}") from error
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise ExportError(f"'{path}' does not name a model_type: is this a transformers model?")
    return config
