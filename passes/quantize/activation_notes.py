"""What Netron shows on the node that rounds an activation."""

from sardonyx.passes.journal import Activation


def activation_notes(entry: Activation) -> dict[str, object]:
    """Notes beside those of a weight, as one op may round its activation itself."""
    optional = {
        "activation_class": ": ".join(filter(None, (entry.tensor_class, entry.class_reason))),
        "activation_sqnr_db": _decibels(entry.sqnr_db),
        "product_sqnr_db": _decibels(entry.product_sqnr_db),
    }
    measured = {} if entry.range is None else {"activation_range": _range(*entry.range), **optional}
    return {
        "activation": entry.name,
        "activation_format": entry.format,
        "activation_method": entry.method,
        **{key: note for key, note in measured.items() if note},
    }


def _range(low: float, high: float) -> str:
    return f"{low:.6g} to {high:.6g}"


def _decibels(db: float | None) -> str:
    return "" if db is None else f"{db:.2f}"
