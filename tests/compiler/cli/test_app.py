"""The program itself: its version and its help."""

from importlib import metadata


def test_version(cli, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: f"1.2.3 of {name}")
    ran = cli("--version")
    assert (ran.code, ran.out) == (0, "sardonyx 1.2.3 of sardonyx\n")


def test_help_names_every_command(cli):
    text = cli("--help").out
    for command in ("compile", "export", "run", "simulate", "explain", "diff", "view", "recipes"):
        assert f" {command} " in text
