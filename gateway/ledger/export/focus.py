"""The bill in the columns of FOCUS 1.3, the FinOps Open Cost and Usage Specification.

A row for each hour, line of the bill and label.

An hour of a worker priced by time is an origin charge, and what it was shared out to are its allocated charges: their
ratios sum to 1 and their costs to its cost. What was shared out to nobody (__idle__, ...) is its unallocated portion.
There is no column of unit prices: those are for who publishes them. `x_` columns are Tollgate's own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, cast

from gateway.ledger import sums
from gateway.ledger.export.columns import PLACES, Cell, Column, Row
from gateway.ledger.money import halves, rounded, whole
from gateway.ledger.record import Label, Line
from gateway.ledger.rollup import HOUR
from gateway.ledger.store import Snapshot
from gateway.ledger.sums import Span

METHOD = "tollgate-worker-time-1"  # README: how a worker's time is shared out
PROVIDER = "Tollgate"
TAGS = "tollgate/"  # before tags that are not the client's own

COLUMNS = (
    Column("AllocatedMethodDetails", "text"),
    Column("AllocatedMethodId", "text"),
    Column("AllocatedResourceId", "text"),
    Column("AllocatedResourceName", "text"),
    Column("AllocatedTags", "text"),
    Column("BilledCost", "amount"),
    Column("BillingAccountId", "text"),
    Column("BillingAccountName", "text"),
    Column("BillingCurrency", "text"),
    Column("BillingPeriodEnd", "time"),
    Column("BillingPeriodStart", "time"),
    Column("ChargeCategory", "text"),
    Column("ChargeClass", "text"),
    Column("ChargeDescription", "text"),
    Column("ChargeFrequency", "text"),
    Column("ChargePeriodEnd", "time"),
    Column("ChargePeriodStart", "time"),
    Column("ConsumedQuantity", "amount"),
    Column("ConsumedUnit", "text"),
    Column("ContractedCost", "amount"),
    Column("EffectiveCost", "amount"),
    Column("HostProviderName", "text"),
    Column("InvoiceId", "text"),
    Column("InvoiceIssuerName", "text"),
    Column("ListCost", "amount"),
    Column("PricingCategory", "text"),
    Column("PricingQuantity", "ratio"),
    Column("PricingUnit", "text"),
    Column("ProviderName", "text"),
    Column("PublisherName", "text"),
    Column("ResourceId", "text"),
    Column("ResourceName", "text"),
    Column("ResourceType", "text"),
    Column("ServiceCategory", "text"),
    Column("ServiceName", "text"),
    Column("ServiceProviderName", "text"),
    Column("ServiceSubcategory", "text"),
    Column("SkuId", "text"),
    Column("SkuMeter", "text"),
    Column("SkuPriceId", "text"),
    Column("SubAccountId", "text"),
    Column("SubAccountName", "text"),
    Column("SubAccountType", "text"),
    Column("Tags", "text"),
    Column("x_CachedTokens", "count"),
    Column("x_OutputTokens", "count"),
    Column("x_PromptTokens", "count"),
    Column("x_Requests", "count"),
)

_NOBODY = Label("")
_RATIO = 10 ** PLACES["ratio"]
_BILLION = Decimal(1).scaleb(-9)

_WINDOWS = """
    SELECT worker, SUM(cost_nanousd), SUM("end" - "start") FROM windows
    WHERE "start" >= :start AND "start" < :end GROUP BY worker
"""
_USE = """
    CASE WHEN correction > 0 THEN 1 ELSE 0 END, SUM(CASE WHEN correction = 0 THEN final ELSE 0 END),
    SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens)
"""


class _Use(NamedTuple):
    """What a line and label had within an hour; of corrections by themselves."""

    requests: int = 0
    prompt: int = 0
    cached: int = 0
    output: int = 0
    cost: int = 0  # at token prices


class _Key(NamedTuple):
    line: Line
    label: Label
    corrects: bool


class _Hour(NamedTuple):
    at: int
    costs: dict[_Key, int]  # nano-USD
    hours: dict[_Key, Decimal]  # of a worker; only where it is priced by time
    ratios: dict[_Key, int]  # of what its worker's hour cost, in units of 1e-12
    use: dict[_Key, _Use]


def hours(ledger: Snapshot, within: Span) -> list[int]:
    """Those that begin within a span and have something to them."""
    found = ledger.rows(
        """
        SELECT hour FROM rollups WHERE hour >= :start AND hour < :end
        UNION SELECT hour FROM allocations WHERE hour >= :start AND hour < :end ORDER BY 1
        """,
        {"start": -int(-within.start // 1), "end": -int(-within.end // 1)},
    )
    return [int(hour) for (hour,) in found]


def rows(ledger: Snapshot, hours: list[int], pruned_before: int, account: str, now: float) -> Iterator[list[Row]]:
    """For each of the hours its rows. A month that has ended at `now` (Unix seconds) is a closed billing period."""
    lines = sums.lines(ledger)
    for at in hours:
        hour = _read(ledger, at, lines, pruned=at < pruned_before)
        yield [_row(hour, key, account, now) for key in sorted(hour.costs)]


def _read(ledger: Snapshot, at: int, lines: Mapping[int, Line], *, pruned: bool) -> _Hour:
    use = _use_by_line(ledger, at, lines) if pruned else _use(ledger, at, lines)
    windows = {
        str(worker): (int(cost), float(seconds))
        for worker, cost, seconds in ledger.rows(_WINDOWS, {"start": at, "end": at + HOUR})
    }
    costs = {key: one.cost for key, one in use.items() if key.line.cost_basis == "token_price"}
    shares: dict[_Key, int] = {}
    for key in use:  # used, and perhaps billed in the hour it ran on into
        if key.line.cost_basis == "gpu_time" and key.line.worker in windows and not key.corrects:
            shares[key] = 0
    shares.update(_shares(ledger, at, lines, pruned=pruned))
    ratios: dict[_Key, int] = {}
    spent: dict[_Key, Decimal] = {}
    for worker in {key.line.worker for key in shares}:
        keys = sorted(key for key in shares if key.line.worker == worker)
        origin = sum(shares[key] for key in keys)
        parts = rounded([shares[key] * _RATIO for key in keys], origin) if origin else [0] * len(keys)
        ratios.update(zip(keys, parts, strict=True))
        seconds = Decimal(windows.get(worker, (0, 0.0))[1])
        for key, part in zip(keys, parts, strict=True):
            spent[key] = seconds * part / _RATIO / HOUR
    return _Hour(at, costs | shares, spent, ratios, use)


def _shares(ledger: Snapshot, at: int, lines: Mapping[int, Line], *, pruned: bool) -> dict[_Key, int]:
    if pruned:
        found = ledger.rows(
            f"SELECT line, {halves('cost_nanousd')} FROM allocations WHERE hour = :hour GROUP BY line", {"hour": at}
        )
        return {_Key(lines[line], _NOBODY, False): whole(*parts) for line, *parts in found}
    found = ledger.rows(
        """
        SELECT line, model_asked, labels.user, tags, cost_nanousd
        FROM allocations JOIN labels ON labels.id = allocations.label WHERE hour = :hour
        """,
        {"hour": at},
    )
    return {_Key(lines[line], Label(*label), False): int(cost) for line, *label, cost in found}


def _use(ledger: Snapshot, at: int, lines: Mapping[int, Line]) -> dict[_Key, _Use]:
    found = ledger.rows(
        f"""
        SELECT line, model_asked, labels.user, tags, {_USE}, {halves("cost_nanousd")}
        FROM entries JOIN labels ON labels.id = entries.label WHERE started_at >= :start AND started_at < :end
        GROUP BY 1, 2, 3, 4, 5
        """,
        {"start": at, "end": at + HOUR},
    )
    return {
        _Key(lines[row[0]], Label(*row[1:4]), bool(row[4])): _Use(
            row[5], row[6], row[7], row[8], whole(row[9], row[10])
        )
        for row in found
    }


def _use_by_line(ledger: Snapshot, at: int, lines: Mapping[int, Line]) -> dict[_Key, _Use]:
    found = ledger.rows(
        f"""
        SELECT line, SUM(requests), SUM(prompt_tokens), SUM(cached_tokens), SUM(output_tokens), {halves("cost_nanousd")}
        FROM rollups WHERE hour = :hour GROUP BY line
        """,
        {"hour": at},
    )
    return {
        _Key(lines[row[0]], _NOBODY, False): _Use(row[1], row[2], row[3], row[4], whole(row[5], row[6]))
        for row in found
    }


def _row(hour: _Hour, key: _Key, account: str, now: float) -> Row:
    line = key.line
    cost = Decimal(hour.costs[key]) * _BILLION
    use = hour.use.get(key, _Use())
    timed = key in hour.ratios
    nobodys = line.tenant.startswith("__")
    start, end = _month(hour.at)
    served = f"{line.model}@{line.version}" if line.version else line.model
    sku = f"{served}:{line.adapter}" if line.adapter else served
    tags = None if nobodys else _tags(key)
    cells: dict[str, Cell] = {
        "AllocatedMethodId": METHOD if timed else None,
        "AllocatedMethodDetails": _details(hour.ratios[key]) if timed else None,
        "AllocatedResourceId": f"{line.tenant}/{line.key_id}" if timed and not nobodys else None,
        "AllocatedResourceName": line.tenant if timed and not nobodys else None,
        "AllocatedTags": tags if timed else None,
        "BillingAccountId": account,
        "BillingCurrency": "USD",
        "BillingPeriodStart": start,
        "BillingPeriodEnd": end,
        "ChargeCategory": "Usage",
        "ChargeClass": "Correction" if key.corrects and end <= now else None,
        "ChargeDescription": _description(key, sku),
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": hour.at,
        "ChargePeriodEnd": hour.at + HOUR,
        "ConsumedQuantity": Decimal(use.prompt + use.output),
        "ConsumedUnit": "Tokens",
        "HostProviderName": "Not Applicable",
        "InvoiceIssuerName": PROVIDER,
        "PricingCategory": "Standard",
        "PricingQuantity": hour.hours[key] if timed else Decimal(use.prompt + use.output),
        "PricingUnit": "Hours" if timed else "Tokens",
        "ProviderName": PROVIDER,
        "PublisherName": PROVIDER,
        "ResourceId": line.worker or None,
        "ResourceName": line.worker or None,
        "ResourceType": "Inference Worker" if line.worker else None,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Tollgate Inference",
        "ServiceProviderName": PROVIDER,
        "ServiceSubcategory": "Generative AI",
        "SkuId": sku,
        "SkuMeter": "Worker Time" if timed else "Tokens",
        "SkuPriceId": f"{sku}/{line.cost_basis}",
        "SubAccountId": None if nobodys else line.tenant,
        "SubAccountName": None if nobodys else line.tenant,
        "SubAccountType": None if nobodys else "Tenant",
        "Tags": None if timed else tags,
        "x_Requests": use.requests,
        "x_PromptTokens": use.prompt,
        "x_CachedTokens": use.cached,
        "x_OutputTokens": use.output,
    }
    for name in ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"):
        cells[name] = cost
    return tuple(_scaled(cells.get(column.name), column) for column in COLUMNS)


def _scaled(cell: Cell, column: Column) -> Cell:
    """Quantized, so that what is written has as many places as the column."""
    if isinstance(cell, Decimal):
        return cell.quantize(Decimal(1).scaleb(-PLACES[column.kind]))
    return cell


def _details(ratio: int) -> str:
    written = format(Decimal(ratio).scaleb(-PLACES["ratio"]), "f")
    return f'{{"Elements": [{{"AllocatedRatio": {written}}}]}}'


def _description(key: _Key, sku: str) -> str:
    line = key.line
    what = "Correction of use" if key.corrects else "Use"
    if line.tenant.startswith("__"):
        return f"{line.tenant.strip('_').capitalize()} time of {line.worker} ({sku})"
    where = f" on {line.worker}" if line.worker else ""
    return f"{what} of {sku}{where} by {line.tenant} ({line.endpoint})"


def _tags(key: _Key) -> str:
    """The client's own tags, and what the ledger knows beside."""
    said: Any = json.loads(key.label.tags) if key.label.tags else {}
    tags: dict[str, str] = cast("dict[str, str]", said) if isinstance(said, dict) else {}
    known = {"key": key.line.key_id, "route": key.line.route, "endpoint": key.line.endpoint, "user": key.label.user}
    return json.dumps(
        {**tags, **{f"{TAGS}{name}": value for name, value in known.items() if value}},
        sort_keys=True,
        ensure_ascii=False,
    )


def _month(at: int) -> tuple[int, int]:
    first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0)
    after = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(after.timestamp())
