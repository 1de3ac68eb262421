from __future__ import annotations

import sqlite3
from random import Random

from workers.demo.sql_task import SHAPES, TABLES, sql_turn


def test_every_query_runs() -> None:
    database = sqlite3.connect(":memory:")
    try:
        for table in TABLES:
            database.execute(f"CREATE TABLE {table.name} ({', '.join(table.columns)})")
        random = Random(1)
        for _ in range(2000):
            database.execute(sql_turn(random).answer)
    finally:
        database.close()


def test_the_query_says_what_the_request_says() -> None:
    random = Random(2)

    for _ in range(2000):
        turn = sql_turn(random)
        numbers = [word for word in turn.question.replace(",", " ").replace(".", " ").split() if word.isdigit()]
        assert all(number in turn.answer for number in numbers)
        assert any(table.name in turn.question and f" {table.name}" in turn.answer for table in TABLES)
        assert ("sorted" in turn.question) <= ("ORDER BY" in turn.answer)
        assert (" per " in turn.question) <= ("GROUP BY" in turn.answer)


def test_every_shape_occurs_and_the_seed_decides() -> None:
    once, again = ([sql_turn(random) for _ in range(200)] for random in (Random(3), Random(3)))

    assert once == again
    words = ("COUNT(*)", "GROUP BY", "LIMIT", "WHERE", "SELECT *")
    assert all(any(word in turn.answer for turn in once) for word in words)
    assert len(SHAPES) == 5
