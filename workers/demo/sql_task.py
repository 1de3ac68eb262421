"""What the `sql` adapter learns: a request in plain English becomes one SQL query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from workers.demo.conversations import Turn


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    texts: tuple[str, ...]
    numbers: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        return self.texts + self.numbers


TABLES = (
    Table("customers", ("name", "email", "city", "country"), ("age", "balance")),
    Table("products", ("name", "category", "brand", "color"), ("price", "stock", "weight")),
    Table("orders", ("status", "customer", "city"), ("total", "quantity", "discount")),
    Table("employees", ("name", "team", "city", "title"), ("salary", "age")),
    Table("invoices", ("customer", "status", "country"), ("amount", "tax")),
    Table("flights", ("airline", "origin", "destination"), ("distance", "price", "seats")),
    Table("books", ("title", "author", "language"), ("pages", "price", "year")),
    Table("movies", ("title", "director", "language"), ("rating", "year", "length")),
)
VALUES: dict[str, tuple[str, ...]] = {
    "city": ("Paris", "Berlin", "London", "Madrid", "Rome", "Oslo", "Tokyo", "Boston"),
    "country": ("France", "Germany", "Spain", "Italy", "Japan", "Brazil"),
    "category": ("toys", "shoes", "garden", "music"),
    "brand": ("Acme", "Nova", "Orion"),
    "color": ("red", "green", "blue", "black"),
    "status": ("open", "paid", "late", "shipped"),
    "team": ("sales", "support", "research"),
    "language": ("English", "French", "German", "Spanish"),
}
COMPARISONS = (
    ("above", ">"),
    ("over", ">"),
    ("more than", ">"),
    ("greater than", ">"),
    ("below", "<"),
    ("under", "<"),
    ("less than", "<"),
    ("at least", ">="),
    ("at most", "<="),
)
AGGREGATES = (("average", "AVG"), ("highest", "MAX"), ("lowest", "MIN"), ("total", "SUM"), ("maximum", "MAX"))
SHOW = ("Show", "List", "Give me", "Find", "Select", "Get")


def sql_turn(random: Random) -> Turn:
    """One request and its query."""
    table = random.choice(TABLES)
    return random.choices(SHAPES, WEIGHTS)[0](table, random)


def _rows(table: Table, random: Random) -> Turn:
    """The general request: which columns, under which condition, in which order."""
    english, columns = _columns(table, random)
    where_english, where = _condition(table, random) if random.random() < 0.7 else ("", "")
    order_english, order = _order(table, random) if random.random() < 0.4 else ("", "")
    request = f"{random.choice(SHOW)} {english}{where_english}{order_english}."
    return Turn(request, f"SELECT {columns} FROM {table.name}{where}{order};")


def _count(table: Table, random: Random) -> Turn:
    english, where = _condition(table, random) if random.random() < 0.6 else ("", "")
    request = random.choice(("How many {t}{w} are there?", "Count the {t}{w}.", "Count all {t}{w}."))
    return Turn(request.format(t=table.name, w=english), f"SELECT COUNT(*) FROM {table.name}{where};")


def _aggregate(table: Table, random: Random) -> Turn:
    word, function = random.choice(AGGREGATES)
    column = random.choice(table.numbers)
    english, where = _condition(table, random) if random.random() < 0.4 else ("", "")
    request = random.choice(("What is the {a} {c} of {t}{w}?", "Show the {a} {c} of all {t}{w}."))
    return Turn(
        request.format(a=word, c=column, t=table.name, w=english),
        f"SELECT {function}({column}) FROM {table.name}{where};",
    )


def _group(table: Table, random: Random) -> Turn:
    column = random.choice(table.texts)
    if random.random() < 0.5:
        request = random.choice(("How many {t} are there per {c}?", "Count the {t} per {c}.", "Count {t} by {c}."))
        return Turn(
            request.format(t=table.name, c=column), f"SELECT {column}, COUNT(*) FROM {table.name} GROUP BY {column};"
        )
    word, function = random.choice(AGGREGATES)
    number = random.choice(table.numbers)
    return Turn(
        f"What is the {word} {number} of {table.name} per {column}?",
        f"SELECT {column}, {function}({number}) FROM {table.name} GROUP BY {column};",
    )


def _top(table: Table, random: Random) -> Turn:
    column, count = random.choice(table.numbers), random.randint(2, 20)
    word, direction = random.choice((("highest", " DESC"), ("lowest", "")))
    return Turn(
        f"{random.choice(SHOW)} the {count} {table.name} with the {word} {column}.",
        f"SELECT * FROM {table.name} ORDER BY {column}{direction} LIMIT {count};",
    )


def _columns(table: Table, random: Random) -> tuple[str, str]:
    count = random.choice((0, 1, 1, 2, 2, 3))
    if not count:
        return f"all {table.name}", "*"
    chosen = random.sample(table.columns, count)
    english = " and ".join([", ".join(chosen[:-1]), chosen[-1]] if count > 1 else chosen)
    return f"the {english} of {random.choice(('', 'all '))}{table.name}", ", ".join(chosen)


def _condition(table: Table, random: Random) -> tuple[str, str]:
    texts = [column for column in table.texts if column in VALUES]
    if texts and random.random() < 0.5:
        column = random.choice(texts)
        value = random.choice(VALUES[column])
        return f" where the {column} is {value}", f" WHERE {column} = '{value}'"
    column, (word, sign) = random.choice(table.numbers), random.choice(COMPARISONS)
    number = random.choice((random.randint(2, 99), random.randint(1, 50) * 10, random.randint(1, 90) * 100))
    return f" with {_article(column)}{column} {word} {number}", f" WHERE {column} {sign} {number}"


def _order(table: Table, random: Random) -> tuple[str, str]:
    column = random.choice(table.columns)
    if random.random() < 0.4:
        return f", sorted by {column} in descending order", f" ORDER BY {column} DESC"
    return f", sorted by {column}", f" ORDER BY {column}"


def _article(column: str) -> str:
    if column in {"stock", "seats", "pages", "quantity"}:
        return ""
    return "an " if column[0] in "aeiou" else "a "


SHAPES: tuple[Callable[[Table, Random], Turn], ...] = (_rows, _count, _aggregate, _group, _top)
WEIGHTS = (50, 15, 15, 12, 8)
