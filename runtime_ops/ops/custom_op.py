"""What a custom op is: a name, a numpy meaning, and a body of standard ops for stock runtimes."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import onnx
import onnx.parser

DOMAIN = "sardonyx"
VERSION = 1

_DOC_WIDTH = 64
"""Columns of a doc string: Netron, which shows it, does not wrap lines."""

INPUTS = ("indices", "centroids", "positions", "values")
"""The inputs of every GOBO op after its first: the arrays of a `gobo.GoboTensor`."""


class Body(Protocol):
    """Makes an op's body; see `CustomOp`."""

    def __call__(self, opset: int, padded: bool, grouped: bool = False) -> onnx.FunctionProto:
        """The body for a model."""


@dataclass(frozen=True)
class CustomOp:
    """An op of the domain ``sardonyx``.

    ``inputs``: names in order. ``bits``: index width. ``function(opset, padded, grouped)``: its
    body, for a model whose default-domain opset is ``opset`` (13 to 26); ``padded`` says that the
    model holds a matrix whose packed form has padding to cut off, ``grouped`` (False if not given)
    one with several tables of centroids. ``meaning(*inputs, **attributes)``: its
    definition in numpy; returns one array.
    """

    name: str
    inputs: tuple[str, ...]
    bits: int
    function: Body
    meaning: Callable[..., Any]


def parse_body(text: str, opset: int, doc: str) -> onnx.FunctionProto:
    """A function of the domain from ONNX text that uses standard ops of ``opset``.

    ``doc`` and the nodes' names, those of what they compute, are for people who open the body.
    """
    header = f'<domain: "{DOMAIN}", opset_import: ["": {opset}]>'
    function = onnx.parser.parse_function(header + text)
    function.doc_string = textwrap.fill(doc, _DOC_WIDTH)
    for node in function.node:
        node.name = node.output[0]
    return function
