"""What reports as JSON share: frozen parts, and a document that states its schema's version."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """A part of a document."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Document(Part):
    """A whole document; its schema is version 1."""

    version: Literal[1] = Field(
        default=1,
        serialization_alias="schema",
        validation_alias="schema",
        description="of this schema",
    )

    model_config = ConfigDict(populate_by_name=True)

    def to_json(self) -> str:
        """The document as written or printed."""
        return self.model_dump_json(by_alias=True, indent=2) + "\n"
