"""The two ways Sardonyx fails: the input is wrong, or a check on the output failed."""


class SardonyxError(Exception):
    """Base of every error that Sardonyx raises on purpose; its text is one clear sentence."""


class InputError(SardonyxError):
    """The model, the recipe or an argument is wrong. The text names it and says what to do."""


class VerificationError(SardonyxError):
    """A rewritten graph does not do what its pass promised. The text names pass and node."""
