"""`tollgate report`: the bill, summed over any dimension of the ledger."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.common import Commands, add_command, add_config, complain

if TYPE_CHECKING:
    from gateway.table import Price

_DETAILS = """\
Times are dates or ISO times (UTC unless they say otherwise), or a duration that reaches back from now.

dimensions: tenant, key, model, version, adapter, route, worker, endpoint, outcome, day, hour, user, model_asked, \
tag:NAME
`user`, `model_asked` and the tags in `metadata` are what clients said. Once `metering.retention` has removed the rows
of single attempts, they are known by the day only. In CSV, where a spreadsheet would take one for a formula, it has a
' before it.

metered_usd is what each attempt was known to cost at its end, and what budgets count. cost_usd is the bill: a worker
priced by time is shared out minute by minute so that the parts sum to rate x time, to the nano-dollar. What nobody used
stands under __idle__, what the gateway's own probes used under __probe__, what it cannot account for under
__unobserved__; token prices are charged as they are. What was not shared out yet is told below the table.

examples:
  tollgate report
  tollgate report --by tenant,model,version --from 2026-11-01 --to 2026-12-01
  tollgate report --by tag:team,user --from 2026-11-01
  tollgate report --by hour --from 24h --format csv > spending.csv
  tollgate report --by model --prices '{chat-8b: {input_usd_per_m: 0.20, output_usd_per_m: 0.60}}'
  tollgate report --by tenant --from 7d --plot week.png
  tollgate report --fits
"""
PLOT_SUFFIXES = (".png", ".svg")
CONFIGURED = ""  # what --prices holds when nothing follows it


def register(commands: Commands) -> None:
    parser = add_command(commands, "report", "say who spent what", _DETAILS, run)
    parser.add_argument(
        "--by", type=names, default=("tenant",), metavar="NAME,…", help="dimensions, see below; default: tenant"
    )
    parser.add_argument("--from", dest="since", type=moment, metavar="TIME", help="only requests from then on")
    parser.add_argument("--to", dest="until", type=moment, metavar="TIME", help="only requests before")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: %(default)s")
    parser.add_argument(
        "--prices",
        nargs="?",
        const=CONFIGURED,
        metavar="FILE|LIST",
        help="show beside the bill what a price list makes of the same tokens: `prices:` of the configuration, of a "
        "YAML file, or written here",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="also draw cost_usd over hours or days, as a .png or .svg"
    )
    parser.add_argument("--fits", action="store_true", help="show the cost model instead: its coefficients, their fit")
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    from gateway.cli import report_formats
    from gateway.config import ConfigError, ledger_location
    from gateway.ledger import dimensions, fits, report
    from gateway.ledger.store import LedgerError

    wrong = [name for name in arguments.by if not dimensions.is_dimension(name)]
    if wrong or len(set(arguments.by)) < len(arguments.by):
        complain(f"--by {','.join(arguments.by)}: name each of these at most once: {', '.join(dimensions.DIMENSIONS)}")
        return 2
    if wrong_span(arguments.since, arguments.until):
        return 2
    if arguments.plot is not None and arguments.plot.suffix.lower() not in PLOT_SUFFIXES:
        complain(f"--plot {arguments.plot}: end the name in {' or '.join(PLOT_SUFFIXES)}")
        return 2
    try:
        url = ledger_location(arguments.config)
        if arguments.fits:
            report_formats.show_fits(fits.latest(url), arguments.format)
            return 0
        prices = _prices(arguments.prices, arguments.config)
        report_formats.show(report.build(url, arguments.by, arguments.since, arguments.until, prices), arguments.format)
        return 0 if arguments.plot is None else _plot(url, arguments)
    except (ConfigError, LedgerError) as error:
        complain(error)
        return 1
    except _PriceListError as error:
        complain(f"--prices: {error}")
        return 2


def _plot(url: str, arguments: argparse.Namespace) -> int:
    from gateway.cli import report_plot
    from gateway.ledger import history

    told = history.read(url, arguments.by, arguments.since, arguments.until)
    if not told.times:
        complain("there is nothing to draw: no cost in that time")
        return 1
    try:
        report_plot.draw(told, arguments.plot)
    except ImportError:
        complain("--plot needs matplotlib, which is not installed: pip install 'tollgate[plot]'")
        return 1
    except OSError as error:
        complain(f"{arguments.plot} cannot be written ({error.strerror})")
        return 1
    print(f"drawn: {arguments.plot}", file=sys.stderr)
    return 0


class _PriceListError(Exception):
    pass


def _prices(written: str | None, directory: Path) -> Mapping[str, Price] | None:
    from gateway.config import price_list, read_prices

    if written is None:
        return None
    if written == CONFIGURED:
        found = price_list(directory)
        if not found:
            raise _PriceListError(f"there are no `prices:` in {directory}: write them there, or name a file")
        return found
    try:
        return read_prices(written if written.lstrip().startswith("{") else Path(written).read_text(encoding="utf-8"))
    except OSError as error:
        raise _PriceListError(f"{written} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise _PriceListError(str(error)) from None


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def wrong_span(since: float | None, until: float | None, start: str = "--from") -> bool:
    """Says what is wrong with a span of time that was asked for; `start` is the option that begins it."""
    if since is not None and until is not None and until < since:
        complain(f"--to is before {start}: exchange them")
        return True
    if since is not None and since > time.time():
        complain(f"{start} lies ahead: name a time before now, or a duration that reaches back from it")
        return True
    return False


def moment(text: str) -> float:
    """Unix seconds."""
    from gateway.config.units import UnitError, parse_duration, parse_span

    for parse in (parse_duration, parse_span):
        try:
            return time.time() - parse(text)
        except UnitError:
            pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 2026-11-01, 2026-11-01T12:00Z or 24h") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
