from __future__ import annotations

import io

import pytest
from rich.console import Console

from workers.capacity.gpus import find, of_memory
from workers.capacity.options import Question
from workers.capacity.parameter_count import from_count
from workers.capacity.planning import Plan, plan
from workers.capacity.quantizations import NAMES
from workers.capacity.serving import Load
from workers.capacity.table import write_table


@pytest.fixture(scope="module")
def planned() -> Plan:
    gpus = [find("l40s"), find("h100")]
    return plan(Question([from_count("13B")], gpus, NAMES, (1, 2), Load(512, 128, 3.0)))


def lines(planned: Plan, width: int) -> list[str]:
    out = io.StringIO()
    write_table(planned, Console(file=out, width=width, markup=False), everything=False)
    return out.getvalue().splitlines()


def test_every_column_where_there_is_room(planned: Plan) -> None:
    heading = next(line for line in lines(planned, 200) if "quantization" in line)
    assert heading.count("┃") == 14
    assert "running" in heading


@pytest.mark.parametrize("width", [80, 100, 120, 140])
def test_a_narrow_terminal_has_fewer_columns_but_whole_ones(planned: Plan, width: int) -> None:
    table = [line for line in lines(planned, width) if line.startswith(("┃", "│"))]
    assert all(len(line) <= width for line in table)
    assert not any("…" in line for line in table)
    for heading in ("quantization", "GPUs", "at 4,096", "TTFT", "replicas", "$/M tokens"):
        assert heading in table[0]


def test_of_a_memory_alone_there_are_no_columns_of_nothing() -> None:
    table = plan(Question([from_count("13B")], [of_memory(48 * 10**9, "48 GB")], NAMES, (1,), Load(512, 128)))
    written = lines(table, 200)
    assert not any("TTFT" in line or "–" in line for line in written if line.startswith(("┃", "│")))
