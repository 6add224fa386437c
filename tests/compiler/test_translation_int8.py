"""The count of Bhandare et al. (arXiv 1906.00532): of Transformer-base's 97 products by weights and
36 of two activations, all but the 12 behind ReLU are converted, which are the sparse ones."""

import pytest

from sardonyx.compiler import compile
from sardonyx.models.seeded import seeded_values

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Encoder and decoder, without cache, of a Marian model of 6 + 6 layers with random weights."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    from sardonyx.models.export.export_model import export_model  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("marian")
    config = transformers.MarianConfig(
        vocab_size=2000,
        d_model=512,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_layers=6,
        decoder_layers=6,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        max_position_embeddings=128,
        activation_function="relu",
        pad_token_id=1999,
        decoder_start_token_id=1999,
    )
    model = transformers.MarianMTModel(config)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = torch.from_numpy(seeded_values(name, tuple(parameter.shape), 0))
    model.save_pretrained(folder)
    files = {path.name: path for path in export_model(folder, folder / "m.onnx")}
    return [files["m.encoder.onnx"], files["m.decoder.onnx"]]


def converted(path, overrides=()):
    """MatMuls of a compiled part: all, and those whose operands are both dequantized."""
    made = compile(path, "int8-kl", random_calibration=8, overrides=overrides)
    nodes = made.model.graph.node
    integer = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    products = [node for node in nodes if node.op_type == "MatMul"]
    return len(products), sum(integer.issuperset(node.input) for node in products), made.report


def test_all_but_the_sparse(parts):
    found = [converted(path) for path in parts]
    assert sum(products for products, _, _ in found) == 133
    assert sum(integer for _, integer, _ in found) == 85
    left = [s for _, _, report in found for s in report.skipped if "is sparse" in s.reason]
    assert len(left) == 12
    assert all("elu" in skip.reason for skip in left)


def test_all(parts):
    overrides = ["insert-qdq.act_act=true", "insert-qdq.sparse=quantize"]
    found = [converted(path, overrides) for path in parts]
    assert sum(integer for _, integer, _ in found) == 133
