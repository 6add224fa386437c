"""The task of a model directory."""

from __future__ import annotations

import json

import pytest

from sardonyx.models.export.directory import ExportError, find_task

pytestmark = pytest.mark.heavy
pytest.importorskip("transformers")


@pytest.fixture
def task_of(tmp_path):
    """The task that is found for a config.json with these fields."""

    def find(**fields):
        (tmp_path / "config.json").write_text(json.dumps(fields))
        return find_task(tmp_path)

    return find


@pytest.mark.parametrize(
    ("kind", "architecture", "task"),
    [
        ("bert", "BertForMaskedLM", "fill-mask"),
        ("bert", "BertLMHeadModel", "text-generation-with-past"),
        ("bart", "BartForConditionalGeneration", "text2text-generation-with-past"),
        ("bart", "BartForSequenceClassification", "text-classification"),
        ("t5", "T5Model", "feature-extraction"),
    ],
)
def test_first_task_of_a_class(kind, architecture, task, task_of):
    assert task_of(model_type=kind, architectures=[architecture]) == task


@pytest.mark.parametrize("architectures", [["BertForPreTraining"], [], None, 5])
def test_no_task(architectures, task_of):
    with pytest.raises(ExportError, match="of which no task is known: give --task, one of"):
        task_of(model_type="bert", architectures=architectures)
