"""Why something that looks like a formula does not become an op."""


class Unfit(Exception):
    """The reason, with the value that stands in the way."""
