from __future__ import annotations

import io
import os
import tarfile

import numpy as np
import pytest

from sardonyx.models import (
    held_out_snippets,
    movie_review_sentences,
    sentences,
    vader_movie_snippets,
)
from sardonyx.models.packages import VADER, VADER_SDIST_VARIABLE, cached_vader_sdist


def archive(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def small_sdist(tmp_path, monkeypatch):
    rows = "1\t2.5\tA  gem!\r\n2\t0.0\tIt is.\r\n3\t-1.25\tDul-l\r\n4\t-3\tNaïve\r\n5\t1\tNew\r\n"
    inner = archive(**{"hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt": rows.encode()})
    path = tmp_path / "sdist.tar.gz"
    path.write_bytes(archive(**{f"{VADER.name}-{VADER.version}/{VADER.file}": inner}))
    monkeypatch.setenv(VADER_SDIST_VARIABLE, str(path))


@pytest.mark.usefixtures("small_sdist")
def test_snippets_are_read_out_of_the_archive_in_the_sdist():
    snippets, ratings = vader_movie_snippets()
    assert snippets == ["A  gem!", "It is.", "Dul-l", "Naïve", "New"]
    assert ratings.tolist() == [2.5, 0.0, -1.25, -3.0, 1.0]


@pytest.mark.usefixtures("small_sdist")
def test_held_out_drops_seen_and_unrated_snippets(monkeypatch):
    monkeypatch.setattr(sentences, "movie_review_sentences", lambda: (["a GEM .", "dull"], None))
    snippets, labels = held_out_snippets()
    assert snippets == ["Naïve", "New"]
    assert labels.tolist() == [0, 1]


def test_movie_review_sentences_are_the_rotten_tomatoes_rows():
    texts, labels = movie_review_sentences()
    assert len(texts) == 8530
    assert np.bincount(labels).tolist() == [4265, 4265]


def test_held_out_set():
    if not (os.environ.get(VADER_SDIST_VARIABLE) or cached_vader_sdist().exists()):
        pytest.skip(f"the vaderSentiment sdist is not cached and {VADER_SDIST_VARIABLE} is not set")
    texts, labels = held_out_snippets()
    assert len(texts) == len(set(texts)) == 2128
    assert np.bincount(labels).tolist() == [1063, 1065]
