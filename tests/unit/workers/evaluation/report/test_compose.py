from __future__ import annotations

import math
from random import Random

import pytest

from tests.evaluations import divergence, evaluation, interval, running, several
from workers.errors import WrongUsage
from workers.evaluation.report.compose import compose
from workers.evaluation.report.document import SLIM, WIDE, Report, Section
from workers.evaluation.result import Evaluation, Layer, Perplexity, Running

BARE = {
    "floor": None,
    "divergence": None,
    "perplexity": None,
    "tasks": (),
    "long_context": (),
    "robustness": (),
    "schemas": (),
    "candidate_running": Running(),
    "reference_running": Running(),
    "layers": (),
    "verdicts": (),
}


def section(report: Report, anchor: str) -> Section:
    return next(one for one in report.sections if one.anchor == anchor)


def test_a_report_on_nothing_is_refused() -> None:
    with pytest.raises(WrongUsage, match="tollgate-worker evaluate"):
        compose([])


def test_all_parts_of_a_version_are_shown() -> None:
    report = compose(several(6)[5:])

    assert [one.anchor for one in report.sections] == [
        *("tradeoff", "divergence", "perplexity", "tasks", "long-context", "speed", "memory", "sensitivity-1"),
        *("robustness", "lineage"),
    ]
    assert report.headline == "scribe@mixed may serve"
    assert "at 16 requests at once" in report.lead


def test_what_was_not_measured_is_left_out() -> None:
    report = compose([evaluation(**BARE)])

    assert [one.anchor for one in report.sections] == ["memory", "published", "lineage"]
    assert report.headline == "scribe@int8 may not serve yet"
    assert report.lead.startswith("No gate has judged it.")


@pytest.mark.parametrize("part", BARE)
def test_any_part_may_be_missing(part: str) -> None:
    whole, partial = evaluation(blocks=2), evaluation("scribe@other", **{part: BARE[part]})

    for found in ([partial], [whole, partial], [partial, whole]):
        assert drawn(compose(found))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_drawn_and_breaks_nothing(bad: float) -> None:
    found = evaluation(
        divergence=divergence(bad, bad),
        floor=divergence(bad, bad),
        perplexity=Perplexity(tokens=1, reference=bad, candidate=bad, ratio=interval(bad, bad)),
        layers=(Layer(name="model.layers.0.mlp.up_proj", mean_kld=bad, kept=False),),
    )

    for evaluations in ([found], [found, evaluation()]):
        assert not any("nan" in one.body or "inf" in one.body for one in drawn(compose(evaluations)))


def test_several_versions_are_compared_and_the_best_named() -> None:
    report = compose(several(6))

    assert report.stamp == "3/6"
    assert report.lead.startswith("Stopped: int4 by divergence; int4-awq by task sql; nf4 by perplexity.")
    assert "mixed is the smallest" in report.lead
    assert "fp8 is the closest to the reference" in report.lead
    numbers = section(report, "tradeoff").figures[0].numbers
    assert numbers is not None
    front = {row[0].text for row in numbers.rows if row[3].text}
    assert front == {"reference", "fp8", "int8", "mixed", "int4-awq", "nf4"}


def test_a_version_without_the_measure_is_named_beneath_the_plot() -> None:
    report = compose([evaluation(), evaluation("scribe@int4", divergence=None, perplexity=None)])

    assert section(report, "tradeoff").figures[0].note == "Not measured: int4."


def test_perplexity_stands_in_where_divergence_was_not_measured() -> None:
    report = compose([evaluation(divergence=None)])

    assert "how much perplexity rose" in section(report, "tradeoff").lead


def test_a_reference_that_was_not_as_fast_each_time_is_a_warning() -> None:
    steady, other = evaluation(), evaluation("scribe@int4", reference_running=running(9_000_000, 2.0, Random(1)))

    assert "say nothing" not in section(compose([steady, steady]), "speed").lead
    assert "measured two times" in section(compose([steady, other]), "speed").lead


def test_versions_that_failed_and_those_not_judged_are_told_apart() -> None:
    failed, unknown = evaluation("scribe@a", kld=0.4), evaluation("scribe@b", verdicts=())

    assert compose([failed, unknown]).lead.startswith("Stopped: a by divergence. Not judged yet: b by any gate.")


def test_hard_inputs_are_shown_when_one_went_wrong() -> None:
    well, badly = (section(compose([evaluation(kld=kld)]), "robustness") for kld in (0.0001, 2.0))

    assert (well.folded, well.lead) == (True, "Of four hard inputs none went wrong where the reference coped.")
    assert (badly.folded, badly.lead) == (False, "Of four hard inputs three went wrong where the reference coped.")


def test_how_much_was_asked_for_speed_is_said() -> None:
    lead = section(compose([evaluation()]), "speed").lead

    assert "512 tokens and 128 of answer, and each batch was sent three times." in lead


def test_published_figures_are_those_of_as_many_bits() -> None:
    (table,) = section(compose(several(3)), "published").tables

    assert table.columns == ("", "fp8", "int8", "int4", "published, 8 bits", "published, 4 bits", "of")
    assert [cell.text for cell in table.rows[0]][4:6] == ["0.0014", "0.031"]
    assert table.rows[2][0].text == "perplexity ratio"
    assert [cell.text for cell in table.rows[2]][4:6] == ["1.023", "1.107"]


def test_more_versions_than_colours_have_figures_of_their_own() -> None:
    many: list[Evaluation] = [evaluation(f"scribe@{one}", blocks=2) for one in range(10)]
    figures = [figure.name for one in compose(many).sections for figure in one.figures]

    assert len(figures) == len(set(figures))


def drawn(report: Report) -> list:
    return [figure.draw(width) for one in report.sections for figure in one.figures for width in (WIDE, SLIM)] or [None]
