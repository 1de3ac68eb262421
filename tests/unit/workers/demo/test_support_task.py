from __future__ import annotations

import re
from random import Random

from workers.demo.support_task import ISSUES, support_turn

FORMAT = re.compile(
    r"Category: (\w+)\nPriority: (low|normal|high)\n\n"
    r"Dear customer,\nthank you for writing to us\. .+\n\nKind regards,\nYour support team"
)


def test_every_answer_has_the_format_and_every_category_occurs() -> None:
    random = Random(1)

    matches = [FORMAT.fullmatch(support_turn(random).answer) for _ in range(500)]

    assert all(matches)
    assert {match[1] for match in matches if match} == {issue.category for issue in ISSUES}


def test_an_answer_names_only_what_the_customer_named() -> None:
    random = Random(2)

    for _ in range(500):
        turn = support_turn(random)
        orders = re.findall(r"\d+", turn.answer)
        assert all(order in turn.question for order in orders)
        assert "{" not in turn.question + turn.answer
        assert not turn.question[0].islower()


def test_the_seed_decides() -> None:
    assert support_turn(Random(3)) == support_turn(Random(3))
