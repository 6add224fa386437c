"""Models to compile: exported, written without PyTorch, and real ones by package name.

Stands alone: imports nothing else of the project, and at import time only numpy and onnx.
"""

from sardonyx.models.config import BERT_BASE, TINY_BERT, TINY_MPNET, EncoderConfig, parameter_shapes
from sardonyx.models.embed import embed, mean_pool
from sardonyx.models.export.directory import ExportError
from sardonyx.models.export.export_model import export_model
from sardonyx.models.export.settings import ExportSettings
from sardonyx.models.hugging_face import encoder_from_directory
from sardonyx.models.packages import PACKAGES, Package, PackageMissing
from sardonyx.models.real_models import (
    exported_models,
    minilm_l3_onnx,
    minilm_l6,
    minilm_tokenizer,
    mpnet_base,
    mpnet_tokenizer,
)
from sardonyx.models.seeded import seeded_bert, seeded_weights
from sardonyx.models.sentences import (
    held_out_snippets,
    movie_review_sentences,
    vader_movie_snippets,
)
from sardonyx.models.transformer import build_encoder

__all__ = [
    "BERT_BASE",
    "PACKAGES",
    "TINY_BERT",
    "TINY_MPNET",
    "EncoderConfig",
    "ExportError",
    "ExportSettings",
    "Package",
    "PackageMissing",
    "build_encoder",
    "embed",
    "encoder_from_directory",
    "export_model",
    "exported_models",
    "held_out_snippets",
    "mean_pool",
    "minilm_l3_onnx",
    "minilm_l6",
    "minilm_tokenizer",
    "movie_review_sentences",
    "mpnet_base",
    "mpnet_tokenizer",
    "parameter_shapes",
    "seeded_bert",
    "seeded_weights",
    "vader_movie_snippets",
]
