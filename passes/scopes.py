"""A graph and all graphs inside it: the bodies of If, Loop and Scan see the tensors around them."""

from collections.abc import Iterator

import onnx_graphsurgeon as gs


def bodies(node: gs.Node) -> list[gs.Graph]:
    """The graphs that a node holds itself; graphsurgeon's `subgraphs` takes far longer."""
    return [value for value in node.attrs.values() if isinstance(value, gs.Graph)]


def scopes(graph: gs.Graph) -> Iterator[gs.Graph]:
    """The graph, then every graph inside it, each before those that it holds."""
    yield graph
    for node in graph.nodes:
        for body in bodies(node):
            yield from scopes(body)


def all_nodes(graph: gs.Graph) -> Iterator[gs.Node]:
    """The nodes of a graph and of all graphs inside it."""
    for scope in scopes(graph):
        yield from scope.nodes


def all_outputs(graph: gs.Graph) -> set[int]:
    """The ``id`` of each output of a graph and of all graphs inside it."""
    return {id(tensor) for scope in scopes(graph) for tensor in scope.outputs}


def all_constants(graph: gs.Graph) -> list[gs.Constant]:
    """Each constant that a node or an output reads, once, in the order of its first reader."""
    read = [tensor for node in all_nodes(graph) for tensor in node.inputs]
    read += [tensor for scope in scopes(graph) for tensor in scope.outputs]
    return list({id(t): t for t in read if isinstance(t, gs.Constant)}.values())


def computed_constants(graph: gs.Graph) -> set[int]:
    """The ``id`` of each variable that is computed from constants alone."""
    found: set[int] = set()
    pending = [node for node in all_nodes(graph) if node.inputs and node.outputs]
    while pending:
        node = pending.pop()
        known = (isinstance(t, gs.Constant) or t.is_empty() or id(t) in found for t in node.inputs)
        if id(node.outputs[0]) not in found and all(known):
            found.update(map(id, node.outputs))
            pending += [reader for tensor in node.outputs for reader in tensor.outputs]
    return found


def is_constant(tensor: gs.Tensor) -> bool:
    """Whether a value is a constant, or computed from constants alone."""
    pending, seen = [tensor], {id(tensor)}
    while pending:
        value = pending.pop()
        if isinstance(value, gs.Constant) or value.is_empty():
            continue
        read = value.inputs[0].inputs if value.inputs else []
        if not read:
            return False
        fresh = [t for t in read if id(t) not in seen]
        seen.update(map(id, fresh))
        pending += fresh
    return True
