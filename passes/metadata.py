"""Notes on nodes that travel to the file's ``metadata_props``, where Netron shows them.

graphsurgeon has no place for them: they ride in ``node.attrs`` under reserved keys (which survive
``Node.copy``), put there by load and taken out by emit. So does the message that a node was read
from, for the little else that graphsurgeon leaves behind.
"""

import onnx_graphsurgeon as gs

PREFIX = "sardonyx."
PROPS = "sardonyx.metadata_props"
DOC = "sardonyx.doc_string"
WRITTEN = "sardonyx.written"
RESERVED = (PROPS, DOC, WRITTEN)

SMOOTHED = "/smoothed"
"""How names end of tensors whose channels a pass rescaled: one name means the same values."""

ORDERED = "/ordered"
"""The same of tensors whose channels a pass put in another order."""


def annotate(node: gs.Node, **notes: object) -> None:
    """Add notes to a node; they appear as ``sardonyx.KEY`` in the file."""
    props = dict(node.attrs.get(PROPS, {}))
    props.update({f"{PREFIX}{key}": str(value) for key, value in notes.items()})
    node.attrs[PROPS] = props


def annotate_part(node: gs.Node, number: int, old: gs.Node, **notes: object) -> None:
    """Add the notes of a node that became part of another, and more: as
    ``sardonyx.partNUMBER.KEY``."""
    props = old.attrs.get(PROPS, {})
    own = {k.removeprefix(PREFIX): v for k, v in props.items() if k.startswith(PREFIX)}
    annotate(node, **{f"part{number}.{key}": note for key, note in (own | notes).items()})


def describe(node: gs.Node, text: str) -> None:
    """Say in the node's doc string what it is, unless the user's model says something there."""
    node.attrs.setdefault(DOC, text)


def inherit(node: gs.Node, old: gs.Node) -> None:
    """Give ``node`` the notes of the node it replaces."""
    node.attrs.update({key: old.attrs[key] for key in (PROPS, DOC) if key in old.attrs})
