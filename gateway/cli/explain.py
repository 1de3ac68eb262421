"""`tollgate explain`: why a request went where it went, or where one would go now."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from gateway.cli.common import Commands, add_command, add_config, complain

if TYPE_CHECKING:
    from gateway.explain.record import Document

_DETAILS = """\
With the `x-request-id` of an answer: what the router knew and decided, what was tried, and what came of it. Every
gateway process of this machine keeps its latest requests in a directory beside the ledger (`decisions` in
gateway.yaml), which is read whether a gateway runs or not; with --url, the gateway there is asked about its machine's.

With --model, --tenant and --prompt-tokens: where such a request would go now. The gateway that runs is asked, since
only it knows the state of the workers; no request is sent to any of them.

A gateway that is asked wants an admin key, in the environment: TOLLGATE_ADMIN_KEY.

The score of a candidate is a sum of milliseconds: what waits there for prefill (queue), this prompt without what the
worker has cached (prefill), what that costs those who come after (others), loading its adapter, its output (decode), a
penalty for a full KV cache, and its price by what the tenant's time is worth. The least is asked first where the route
minimizes latency; it decides between equals where the route goes by cost or quality.

examples:
  tollgate explain req_019ab8e2f0c41f2e3d4c5b6a7988
  tollgate explain req_019ab8e2f0c41f2e3d4c5b6a7988 --format json
  tollgate explain --model auto --tenant support --prompt-tokens 6000
  tollgate explain --model chat-8b --tenant support --prompt-tokens 200 --optimize cost --url http://gateway:4000
"""
_DESCRIPTION = ("model", "tenant", "prompt_tokens")
_MORE = ("output_tokens", "optimize", "max_ttft_ms", "max_price_usd_per_m")


def register(commands: Commands) -> None:
    parser = add_command(commands, "explain", "say why a request went where it went", _DETAILS, run)
    parser.add_argument("id", nargs="?", metavar="ID", help="the `x-request-id` of an answer")
    parser.add_argument(
        "--model", metavar="NAME", help="of a request that is only described: as a client would name it"
    )
    parser.add_argument("--tenant", metavar="NAME", help="who would send it")
    parser.add_argument("--prompt-tokens", type=_count, metavar="N", help="how long its prompt would be")
    parser.add_argument("--output-tokens", type=_count, metavar="N", help="and its answer; default: as usual")
    parser.add_argument("--optimize", choices=("cost", "latency", "quality"), help="as in the request's `routing`")
    parser.add_argument("--max-ttft-ms", type=_positive, metavar="N", help="as in the request's `routing`")
    parser.add_argument("--max-price-usd-per-m", type=_positive, metavar="N", help="as in the request's `routing`")
    parser.add_argument("--url", metavar="URL", help="of the gateway to ask; default: the one of this configuration")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default: %(default)s")
    add_config(parser)


def run(arguments: argparse.Namespace) -> int:
    from gateway.cli.explain_ask import GatewayAway
    from gateway.config import ConfigError
    from gateway.errors import GatewayError

    given = [name for name in (*_DESCRIPTION, *_MORE) if getattr(arguments, name) is not None]
    if arguments.id is not None and given:
        complain(f"an ID says all: leave out {_option(given[0])}, or the ID to describe a request")
        return 2
    missing = [_option(name) for name in _DESCRIPTION if getattr(arguments, name) is None]
    if arguments.id is None and missing:
        complain(f"name a request by its ID, or describe one: {', '.join(missing)} missing")
        return 2
    try:
        found = _described(arguments, given) if arguments.id is None else _decided(arguments)
    except (ConfigError, GatewayAway) as error:
        complain(error)
        return 1
    except GatewayError as error:
        complain(error.message)
        return 2 if error.status == 400 else 1
    except NotADirectoryError as error:
        complain(f"{error.filename} is no directory, so nothing is kept there: `tollgate check` says what to write")
        return 1
    except OSError as error:
        complain(f"{error.filename or 'what is kept'} cannot be read ({error.strerror}): ask as the gateway's user")
        return 1
    if arguments.format == "json":
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        from gateway.cli.explain_text import show

        show(found)
    return 0


def _decided(arguments: argparse.Namespace) -> Document:
    from gateway.cli.explain_ask import ask
    from gateway.config import decisions_location
    from gateway.explain.find import find

    if arguments.url is not None:
        return ask(arguments.url, f"decisions/{arguments.id}", {})
    return find(decisions_location(arguments.config), arguments.id)


def _described(arguments: argparse.Namespace, given: list[str]) -> Document:
    from gateway.cli.explain_ask import ask
    from gateway.config import server_location

    url = arguments.url or server_location(arguments.config)
    return ask(url, "explain", {name: getattr(arguments, name) for name in given})


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 8 and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of tokens from 1 to 99,999,999")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value
