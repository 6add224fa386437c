"""Notes on nodes that travel to the file's ``metadata_props``, where Netron shows them.

graphsurgeon has no place for them: they ride in ``node.attrs`` under reserved keys (which survive
``Node.copy``), put there by load and taken out by emit.
"""

import onnx_graphsurgeon as gs

PREFIX = "sardonyx."
PROPS = "sardonyx.metadata_props"
DOC = "sardonyx.doc_string"
RESERVED = (PROPS, DOC)


def annotate(node: gs.Node, **notes: object) -> None:
    """Add notes to a node; they appear as ``sardonyx.KEY`` in the file."""
    props = dict(node.attrs.get(PROPS, {}))
    props.update({f"{PREFIX}{key}": str(value) for key, value in notes.items()})
    node.attrs[PROPS] = props


def describe(node: gs.Node, text: str) -> None:
    """Say in the node's doc string what it is, unless the user's model says something there."""
    node.attrs.setdefault(DOC, text)


def inherit(node: gs.Node, old: gs.Node) -> None:
    """Give ``node`` the notes of the node it replaces."""
    node.attrs.update({key: old.attrs[key] for key in RESERVED if key in old.attrs})
