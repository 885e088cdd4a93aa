"""A gap is known only where Kafka's answer went over it in its place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from faust.types import TP

from stream.runtime.answers import Answers, Gap

CARDS = TP("cards", 0)


def came(answers: Answers, begin: int) -> SimpleNamespace:
    """An answer to a fetch from an offset; what walks over it moves `next_fetch_offset`."""
    records = SimpleNamespace(next_fetch_offset=begin)
    answers[CARDS] = SimpleNamespace(_partition_records=records)
    return records


def walked(answers: Answers, begin: int, to: int) -> None:
    """An answer came and was taken whole."""
    came(answers, begin).next_fetch_offset = to
    del answers[CARDS]


def test_a_marker_between_two_answers_is_a_gap_that_is_known() -> None:
    answers = Answers()
    walked(answers, 0, 10)
    assert answers.taken(CARDS, 0) == Gap(0, 0)
    walked(answers, 10, 20)
    assert answers.taken(CARDS, 11) == Gap(10, 11)


def test_answers_without_a_record_join_with_the_next_one() -> None:
    answers = Answers()
    walked(answers, 0, 10)
    answers.taken(CARDS, 0)
    walked(answers, 10, 15)
    walked(answers, 15, 30)
    assert answers.taken(CARDS, 20) == Gap(10, 20)


def test_an_answer_that_is_taken_in_parts_goes_on_where_it_was_left() -> None:
    answers = Answers()
    records = came(answers, 0)
    records.next_fetch_offset = 5
    assert answers.taken(CARDS, 0) == Gap(0, 0)
    records.next_fetch_offset = 9
    del answers[CARDS]
    assert answers.taken(CARDS, 7) == Gap(5, 7)


def test_what_was_taken_and_lost_is_no_gap_that_an_answer_went_over() -> None:
    answers = Answers()
    walked(answers, 0, 10)
    answers.taken(CARDS, 0)
    walked(answers, 10, 20)
    answers.taken(CARDS, 10)  # and is lost on its way
    walked(answers, 20, 30)
    assert answers.taken(CARDS, 21) == Gap(20, 21)


def test_an_answer_from_where_the_log_begins_now_goes_over_nothing_before_it() -> None:
    answers = Answers()
    walked(answers, 0, 10)
    answers.taken(CARDS, 0)
    walked(answers, 70, 80)  # what was asked for is out of range
    assert answers.taken(CARDS, 70) == Gap(70, 70)


def test_an_answer_that_was_thrown_away_went_over_nothing() -> None:
    answers = Answers()
    walked(answers, 0, 10)
    answers.taken(CARDS, 0)
    came(answers, 10)
    del answers[CARDS]  # the position has moved meanwhile
    walked(answers, 5, 12)
    assert answers.taken(CARDS, 5) == Gap(5, 5)
    answers.clear()
    walked(answers, 40, 50)
    assert answers.taken(CARDS, 41) == Gap(40, 41)


def test_an_error_is_no_answer() -> None:
    answers = Answers()
    error: Any = object()
    answers[CARDS] = error
    del answers[CARDS]
    assert answers.taken(CARDS, 3) == Gap(3, 3)
