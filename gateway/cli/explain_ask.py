"""Asks the admin API of a gateway that runs."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

KEY = "TOLLGATE_ADMIN_KEY"
SECONDS = 10.0
MOST_BYTES = 4 * 1024 * 1024


class GatewayAway(Exception):
    """No gateway gave an answer; says what to do."""


def ask(url: str, path: str, query: Mapping[str, object]) -> Any:
    """The document at `path` of /admin/v1. Raises `GatewayAway` where there is none."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise GatewayAway(f"{url} is no URL of a gateway: write http://HOST:PORT")
    key = os.environ.get(KEY, "")
    if not key:
        raise GatewayAway(f"the gateway at {url} wants an admin key: put it into the environment as {KEY}")
    full = f"{url.rstrip('/')}/admin/v1/{quote(path)}{'?' + urlencode(query) if query else ''}"
    request = urllib.request.Request(full, headers={"authorization": f"Bearer {key}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            return orjson.loads(answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            raise GatewayAway(_refusal(error, url)) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise GatewayAway(
            f"no gateway answers at {url} ({reason}): start it with `tollgate serve`, or name another with --url"
        ) from None


def _refusal(error: urllib.error.HTTPError, url: str) -> str:
    try:
        message = str(orjson.loads(error.read(MOST_BYTES))["error"]["message"])
    except (ValueError, LookupError, TypeError, OSError):
        return f"{url} answered {error.code}, not as a gateway does: name another with --url"
    return f"{message} ({KEY} holds the key that was sent.)" if error.code == 401 else message
