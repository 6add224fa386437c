"""The choice of roundings to spare, on made-up trials: noises that add up, and outputs that a
ruinous one turns to nothing."""

import math

import pytest

from sardonyx.passes.quantize.sensitivity import refine, spare

RUIN = -2.0
"""SQNR of outputs that have nothing in common with the right ones, whatever else is rounded."""


def trial_of(noises, asked=None):
    """A trial of roundings that each add a share of the signal's energy; 1 or more ruins."""

    def trial(on):
        if asked is not None:
            asked.append(frozenset(on))
        noise = sum(noises[place] for place in on)
        return RUIN if noise >= 1 else -10 * math.log10(noise) if noise else math.inf

    return trial


def silent(what, done, total):
    pass


def places(choice):
    return [one.place for one in choice.spared]


def test_the_most_harmful_are_spared():
    choice = spare(trial_of([0.001, 0.1, 0.01, 0.2]), 4, 2, math.inf, silent)
    assert places(choice) == [3, 1]
    assert [one.alone_db for one in choice.spared] == pytest.approx([6.99, 10.0], abs=0.01)
    assert (choice.all_db, choice.rest_db) == pytest.approx((5.07, 19.59), abs=0.01)


def test_a_gain_is_that_over_the_same_without_it():
    noises = [0.001, 0.1, 0.01, 0.2]
    trial = trial_of(noises)
    gains = [one.gained_db for one in spare(trial, 4, 2, math.inf, silent).spared]
    assert gains == [trial({0, 2}) - trial({0, 2, 3}), trial({0, 2}) - trial({0, 1, 2})]


def test_several_that_ruin_by_themselves():
    noises = [0.001, 4.0, 0.01, 2.0, 3.0, 0.002]
    trial = trial_of(noises)
    assert all(trial({*range(6)} - {place}) == RUIN for place in range(6))  # one alone: no gain
    choice = spare(trial, 6, 3, math.inf, silent)
    assert sorted(places(choice)) == [1, 3, 4]
    assert choice.rest_db == pytest.approx(18.86, abs=0.01)


def test_equal_ones_by_their_order():
    assert places(spare(trial_of([0.1] * 5), 5, 2, math.inf, silent)) == [0, 1]


@pytest.mark.parametrize(("goal", "expected"), [(5, []), (9, [3]), (19, [3, 1]), (29, [3, 1, 2])])
def test_no_more_than_a_goal_needs(goal, expected):
    noises = [0.001, 0.1, 0.01, 0.2]
    choice = spare(trial_of(noises), 4, 4, goal, silent)
    assert places(choice) == expected
    assert choice.rest_db >= goal


def test_the_budget_ends_before_the_goal():
    choice = spare(trial_of([0.001, 0.1, 0.01, 0.2]), 4, 1, 29, silent)
    assert places(choice) == [3]
    assert choice.rest_db < 29


def test_none_without_a_budget():
    choice = spare(trial_of([0.1, 0.2]), 2, 0, math.inf, silent)
    assert choice.spared == ()
    assert choice.rest_db == choice.all_db


def test_what_does_no_harm_is_not_spared():
    assert places(spare(trial_of([0.0, 0.1, 0.0]), 3, 3, math.inf, silent)) == [1]


@pytest.mark.parametrize(("most", "expected"), [(1, [0]), (2, [0]), (3, [0, 1, 2])])
def test_what_gains_nothing_among_the_chosen_is_rounded_after_all(most, expected):
    """1 and 2 round the same values, as ahead of a Transpose and behind it: to spare one of them is
    no use."""

    def trial(on):
        return -10 * math.log10(0.01 + 0.2 * (0 in on) + 0.1 * bool(on & {1, 2}))

    choice = spare(trial, 3, most, math.inf, silent)
    assert places(choice) == expected
    assert choice.rest_db == trial(frozenset({0, 1, 2}) - set(expected))


def test_outputs_that_are_no_numbers():
    """-inf alone and together: the worst there is, and no NaN comes of it."""

    def trial(on):
        return -math.inf if on & {1, 2} else 20.0 - len(on)

    choice = spare(trial, 3, 2, math.inf, silent)
    assert places(choice) == [1, 2]
    assert [one.gained_db for one in choice.spared] == [math.inf, math.inf]


def test_no_question_twice():
    asked = []
    spare(trial_of([0.001, 0.1, 0.01, 0.2], asked), 4, 3, 19, silent)
    assert len(asked) == len(set(asked))


def test_progress_reaches_its_end_once():
    calls = []
    noises = [0.001, 0.1, 0.01, 0.2]
    spare(trial_of(noises), 4, 2, 15, lambda *call: calls.append(call))
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert {what for what, _, _ in calls} == {"Trying roundings"}
    assert [done == total for _, done, total in calls].count(True) == 1
    assert calls[-1][1] == calls[-1][2]


def gains_of(db):
    """SQNR of made-up refinements that each add their dB."""
    return lambda made: 10.0 + sum(db[name] for name in made)


def test_refinements_that_gain_are_made():
    found = refine(gains_of({"x": 3.0, "h": 0.1, "y": 0.2, "g": 6.0}), "xhyg", 0.5)
    assert [(one.name, one.made) for one in found] == [
        *(("x", True), ("h", False), ("y", False), ("g", True))
    ]
    assert [one.gained_db for one in found] == pytest.approx([3.0, 0.1, 0.2, 6.0])


def test_one_of_two_that_do_the_same_is_made():
    """Given up together, as their gains among all would have it, they would lose 5 dB."""
    found = refine(lambda on: 10.0 + 5.0 * bool(on & {"h", "y"}), "xhyg", 0.5)
    assert [one.name for one in found if one.made] == ["h"]
    assert [one.gained_db for one in found] == [0.0, 5.0, 0.0, 0.0]


def test_refinements_that_only_help_together():
    """As on a network that any one of the plain roundings ruins."""
    found = refine(lambda on: 20.0 if {"h", "y", "g"} <= on else RUIN, "xhyg", 0.5)
    assert [one.name for one in found if one.made] == ["h", "y", "g"]


def test_no_refinement_is_worth_it():
    found = refine(gains_of({"x": 0.1, "g": -1.0}), "xg", 0.5)
    assert [one.made for one in found] == [False, False]
