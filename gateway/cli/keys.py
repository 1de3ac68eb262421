"""`tollgate keys`: API keys made, listed, rotated and revoked; those of the YAML, and those of the store beside it."""

from __future__ import annotations

import argparse

from gateway.cli.common import Commands, add_command, add_config

_KEYS = """\
Keys live in the YAML (as digests, under `tenants.NAME.keys`) or in the store beside it: in Redis where `state:` says
so, else in keys.db beside the ledger. Running gateways follow both within two seconds.

examples:
  tollgate keys create support --store
  tollgate keys list
  tollgate keys rotate support key-1 --grace 24h
  tollgate keys revoke support key-1
"""

_CREATE = """\
The key goes to standard output and is never shown again; the YAML that lets it in goes to standard error, or straight
into the file that holds the tenant with --write. With --store it is let in by the store instead, and can be rotated and
revoked by command. A line pasted under `admin: {keys: […]}` opens the admin API instead.

endpoints: chat.completions, completions, responses, messages, embeddings, rerank, score, audio.transcriptions,
  audio.translations, tokenize, detokenize

examples:
  tollgate keys create support
  tollgate keys create support --id laptop --write
  tollgate keys create support --store --models chat-8b,chat-8b:support --expires 30d --rpm 60
  export OPENAI_API_KEY=$(tollgate keys create support --write)
"""

_LIST = """\
state: active, expired, revoked, no_tenant (the YAML has no such tenant) or shadowed (the YAML has a key of that id or
secret, which counts instead). Only an active key is let in. Revoked and expired keys are listed for 30 days.

examples:
  tollgate keys list
  tollgate keys list --tenant support --format json
"""

_ROTATE = """\
The new secret goes to standard output and is never shown again. The earlier one, and any before it, is let in until the
grace is over, so that clients can be moved one by one. A secret that has leaked: --grace 0s.

examples:
  tollgate keys rotate support key-1
  tollgate keys rotate support key-1 --grace 0s
"""

_REVOKE = """\
Every gateway refuses it within two seconds, for good; requests under way finish. Revoking it again changes nothing.

example:
  tollgate keys revoke support key-1
"""


def register(commands: Commands) -> None:
    keys = add_command(commands, "keys", "manage API keys", _KEYS, None)
    actions = keys.add_subparsers(title="commands", metavar="COMMAND", required=True)

    create = add_command(actions, "create", "make an API key for a tenant", _CREATE, _run_create)
    create.add_argument("tenant", metavar="TENANT", help="who it is for")
    create.add_argument("--id", metavar="ID", help="what logs call the key; default: key-1, key-2, …")
    target = create.add_mutually_exclusive_group()
    target.add_argument("--write", action="store_true", help="write its digest into the tenant's file")
    target.add_argument("--store", action="store_true", help="put its digest into the store, where it counts at once")
    create.add_argument(
        "--models", type=_names, metavar="NAME,…", help="what it may ask for; default: all its tenant may"
    )
    create.add_argument("--endpoints", type=_names, metavar="NAME,…", help="what it may call; default: everything")
    create.add_argument("--expires", metavar="WHEN", help="30d from now, a day (2027-01-31) or a time; default: never")
    for name, what in (
        ("rpm", "requests per minute"),
        ("tpm", "tokens per minute"),
        ("concurrency", "requests at once"),
    ):
        create.add_argument(f"--{name}", type=_count, metavar="N", help=f"{what}, within its tenant's")
    create.add_argument(
        "--priority", choices=("interactive", "standard", "batch"), help="its class when workers are busy"
    )
    add_config(create)

    show = add_command(actions, "list", "show all API keys", _LIST, _run_list)
    show.add_argument("--tenant", metavar="TENANT", help="only this tenant's")
    show.add_argument("--format", choices=("table", "json"), default="table", help="default: %(default)s")
    add_config(show)

    rotate = add_command(actions, "rotate", "give an API key of the store a new secret", _ROTATE, _run_rotate)
    _named(rotate)
    rotate.add_argument(
        "--grace", default="24h", metavar="SPAN", help="how long the earlier secret is still let in (%(default)s)"
    )
    add_config(rotate)

    revoke = add_command(actions, "revoke", "end an API key of the store", _REVOKE, _run_revoke)
    _named(revoke)
    add_config(revoke)


def _named(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tenant", metavar="TENANT", help="whose it is")
    parser.add_argument("id", metavar="ID", help="what the key is called")


def _run_create(arguments: argparse.Namespace) -> int:
    from gateway.cli.keys_create import run

    return run(arguments)


def _run_list(arguments: argparse.Namespace) -> int:
    from gateway.cli.keys_list import run

    return run(arguments)


def _run_rotate(arguments: argparse.Namespace) -> int:
    from gateway.cli.keys_change import rotate

    return rotate(arguments)


def _run_revoke(arguments: argparse.Namespace) -> int:
    from gateway.cli.keys_change import revoke

    return revoke(arguments)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:10]) <= 10**9):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 1000000000")
    return int(text)
