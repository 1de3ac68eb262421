from __future__ import annotations

import pytest

from workers.evaluation.tasks.demo import ClozeTask, SqlTask, SupportTask, held_out_paragraphs
from workers.evaluation.tasks.task import Task


@pytest.mark.parametrize("task", [SqlTask(), SupportTask(), ClozeTask()], ids=lambda task: task.name)
def test_examples_are_the_seeds_and_each_is_there_once(task: Task) -> None:
    once, again, other = task.examples(1, 40), task.examples(1, 40), task.examples(2, 40)

    assert once == again
    assert {example.identity for example in once} != {example.identity for example in other}
    assert len({example.identity for example in once}) == len(once) == 40
    assert all(task.grade(example, answer) for example in once for answer in example.answers)
    assert not any(task.grade(example, "something else") for example in once)


def test_a_query_is_right_whatever_its_white_space() -> None:
    task = SqlTask()
    example = task.examples(0, 1)[0]
    query = example.answers[0]

    assert task.grade(example, f" {query.removesuffix(';').replace(' ', '  ')}\n")
    assert not task.grade(example, query.replace("SELECT", "SELECT DISTINCT"))
    assert not task.grade(example, query + " " + query)


def test_a_ticket_is_right_where_category_and_priority_are() -> None:
    task = SupportTask()
    example = task.examples(0, 1)[0]

    assert task.grade(example, example.answers[0] + "\n\nDear customer, …")
    assert not task.grade(example, example.answers[0].splitlines()[0])


def test_a_word_is_guessed_among_four_in_the_text_it_comes_from() -> None:
    paragraphs = held_out_paragraphs()
    for example in ClozeTask().examples(3, 50):
        assert len(set(example.choices)) == 4
        assert example.answers[0] in example.choices
        assert example.prompt
        text = example.prompt.removeprefix('"""') + example.answers[0]
        assert any(text in paragraph for paragraph in paragraphs)


def test_there_are_enough_words_to_exclude_a_loss_of_a_point() -> None:
    assert len(ClozeTask().examples(0, 3000)) == 3000
