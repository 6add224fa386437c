"""The compiler: `compile` a model by a recipe. `pipeline` is the file to read first."""

from sardonyx.compiler.pipeline import Compiled, compile
from sardonyx.compiler.recipe import Recipe, load_recipe
from sardonyx.runtime_ops.errors import InputError, SardonyxError, VerificationError

__all__ = [
    "Compiled",
    "InputError",
    "Recipe",
    "SardonyxError",
    "VerificationError",
    "compile",
    "load_recipe",
]
