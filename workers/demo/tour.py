"""`python -m workers.demo.tour`: starts `tollgate up`, walks through it with the OpenAI SDK, and prints each bill.

Every stop of the tour checks what it shows. It stays up afterwards until Ctrl-C; with CI=true it ends there, with 0
only if every stop held.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import openai
from openai import OpenAI

from workers.demo.gate import stop_broken
from workers.demo.held import NotHeld, hold

PORT = 4000
PR_SET_PDEATHSIG = 1  # linux/prctl.h
READY_SECONDS = 420.0  # the first start of an engine compiles; later ones take a fraction
STOP_SECONDS = 90.0
ADMIN_KEY = "sk-tollgate-demo-admin"
SHARED_OUT_SECONDS = 40.0  # for the workers' time to be in the bill: a window of it, and the look after it
GATEWAY_LOG = Path("var/log/gateway.log")
SQL_REQUEST = "Show the name and price of all products with a price above 100."
TICKET = "My parcel has not arrived and I have been waiting for two weeks."


class Tour:
    """The stops, in order. `url` is the gateway's base URL, `config` the directory of its configuration."""

    def __init__(self, url: str, config: Path) -> None:
        self._url = url
        self._config = config
        self.failures: list[str] = []

    def run(self) -> None:
        for stop in (
            self._chat,
            self._stream,
            self._adapters,
            self._routes,
            self._cache,
            self._budget,
            self._unknown_model,
            self._gate,
        ):
            self._visit(stop)

    def _visit(self, stop: Callable[[], None]) -> None:
        print(f"\n── {(stop.__doc__ or '').strip()}")
        try:
            stop()
        except (NotHeld, openai.OpenAIError) as problem:
            self.failures.append(f"{(stop.__doc__ or '').strip()} {problem}")
            print(f"   NOT HELD: {problem}")

    def _client(self, tenant: str) -> OpenAI:
        return OpenAI(base_url=f"{self._url}/v1", api_key=f"sk-tollgate-demo-{tenant}", max_retries=2, timeout=120)

    def _ask(self, tenant: str, model: str, text: str, temperature: float = 0) -> tuple[str, dict[str, str]]:
        """The answer and its x-tollgate-… headers, without the prefix."""
        raw = self._client(tenant).chat.completions.with_raw_response.create(
            model=model, messages=[{"role": "user", "content": text}], max_tokens=64, temperature=temperature
        )
        headers = {
            name.removeprefix("x-tollgate-"): value for name, value in raw.headers.items() if "x-tollgate-" in name
        }
        answer = raw.parse().choices[0].message.content or ""
        print(f"   {model}: {text}")
        print("   → " + answer.strip().replace("\n", "\n     "))
        print(f"     {headers['model']} on {headers['worker']}, route {headers['route']}, ${headers['cost-usd']}")
        return answer, headers

    def _chat(self) -> None:
        """A chat, answered by a quantized version of `scribe`."""
        answer, headers = self._ask("research", "scribe", "What does textwrap.dedent do?", temperature=0.5)
        hold(bool(answer.strip()), "the answer is empty")
        hold(headers["model"].startswith("scribe@"), f"it came from {headers['model']}")
        hold(float(headers["cost-usd"]) > 0, "it cost nothing")

    def _stream(self) -> None:
        """The same as a stream, by an alias that existing clients use (gpt-4o)."""
        stream = self._client("research").chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "What does os.path.join do?"}],
            max_tokens=48,
            stream=True,
        )
        print("   → ", end="", flush=True)
        chunks = 0
        named: set[str] = set()
        for chunk in stream:
            chunks += 1
            named.add(chunk.model)
            print((chunk.choices[0].delta.content or "").replace("\n", "\n     "), end="", flush=True)
        print(f"\n     {chunks} chunks")
        hold(chunks > 2, f"only {chunks} chunks came")
        hold(named == {"gpt-4o"}, f"the model is called {named}, not as asked for")

    def _adapters(self) -> None:
        """LoRA adapters: the same model, made for another task."""
        plain, _ = self._ask("support", "scribe", SQL_REQUEST)
        sql, headers = self._ask("support", "scribe:sql", SQL_REQUEST)
        hold(sql.strip().startswith("SELECT"), "the sql adapter's answer is no query")
        hold(sql != plain, "the adapter changed nothing")
        hold(headers["model"].endswith(":sql"), f"it came from {headers['model']}")
        ticket, _ = self._ask("support", "helpdesk", TICKET)
        hold("Category:" in ticket, "the support adapter's answer has no category")
        try:
            self._client("research").chat.completions.create(
                model="scribe:support", messages=[{"role": "user", "content": TICKET}]
            )
        except openai.PermissionDeniedError as refusal:
            print(f"   tenant research asks for it: {refusal.status_code} {refusal.code}")
        else:
            raise NotHeld("another tenant could use the support adapter")

    def _routes(self) -> None:
        """Routes: `auto-cheap` answers for the least money, `auto-fast` the soonest."""
        for name in ("auto-cheap", "auto-fast"):
            answer, headers = self._ask("research", name, "What does str.split do?", temperature=0.5)
            hold(bool(answer.strip()), "the answer is empty")
            hold(headers["route"] == name.removeprefix("auto-"), f"route {headers['route']} took it")

    def _cache(self) -> None:
        """The cache: a deterministic request asked twice is paid once."""
        question = f"What does list.sort do? (asked at {time.time():.0f})"
        first, miss = self._ask("research", "scribe-mini", question)
        second, hit = self._ask("research", "scribe-mini", question)
        hold((miss["cache"], hit["cache"]) == ("miss", "hit"), f"cache said {miss['cache']} and {hit['cache']}")
        hold(first == second, "the two answers differ")
        hold(float(hit["cost-usd"]) == 0, "the second one cost something")
        print(f"     first {miss['cache']}, then {hit['cache']}")

    def _budget(self) -> None:
        """A budget: the trial tenant has 0.00002 dollars a day, and is refused when they are gone."""
        client = self._client("trial").with_options(max_retries=0)
        for asked in range(1, 31):
            try:
                client.chat.completions.create(
                    model="scribe-mini", messages=[{"role": "user", "content": f"Count to {asked}."}], max_tokens=32
                )
            except openai.RateLimitError as refusal:
                hold(refusal.code == "insufficient_quota", f"refused with {refusal.code}")
                print(f"   request {asked} was refused: {refusal.status_code} {refusal.code}")
                return
        raise NotHeld("30 requests were let through")

    def _unknown_model(self) -> None:
        """An error a client understands: a model that does not exist."""
        try:
            self._client("research").chat.completions.create(
                model="gpt-nonexistent", messages=[{"role": "user", "content": "hello"}]
            )
        except openai.NotFoundError as refusal:
            print(f"   NotFoundError: {refusal.code}")
        else:
            raise NotHeld("it was answered")

    def _gate(self) -> None:
        """The gate: a broken quantization is measured, and does not get to serve (a minute)."""
        stop_broken(self._config)


@contextmanager
def running_gateway(config: Path, port: int) -> Generator[subprocess.Popen[bytes]]:
    """`tollgate up` as a child, ended with this process; its log goes to a file, what it says to the terminal."""
    GATEWAY_LOG.parent.mkdir(parents=True, exist_ok=True)
    with GATEWAY_LOG.open("wb") as log:
        up = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "up", "--config", str(config), "--port", str(port)],
            stdout=log,
            start_new_session=True,  # Ctrl-C is ours to pass on, once
            preexec_fn=_end_with_parent,
        )
    try:
        yield up
    finally:
        if up.poll() is None:
            up.send_signal(signal.SIGTERM)
            try:
                up.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                up.kill()
                up.wait()


def wait_until_ready(url: str, up: subprocess.Popen[bytes]) -> bool:
    """Whether every routed model answers, within the time that a first start may take."""
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if up.poll() is not None:
            return False
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=5):
                return True
        except OSError:
            time.sleep(0.5)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(
        description="The demo: starts the workers and the gateway, and shows what they do."
    )
    parser.add_argument("--config", type=Path, default=Path("router_config"), metavar="DIR")
    parser.add_argument("--port", type=int, default=PORT)
    arguments = parser.parse_args()
    url = f"http://127.0.0.1:{arguments.port}"
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    try:
        with running_gateway(arguments.config, arguments.port) as up:
            if not wait_until_ready(url, up):
                print(f"The gateway is not ready; its log is {GATEWAY_LOG}, the workers' are in var/log/workers.")
                return 1
            print(f"\nReady after {time.monotonic() - started:.0f} s. A tour, with the OpenAI SDK:")
            tour = Tour(url, arguments.config)
            tour.run()
            print("\n── The bill of each tenant, and of what nobody used.")
            _wait_until_shared_out(url)
            _print_report(arguments.config)
            if tour.failures:
                print("\nWhat did not hold:\n" + "\n".join(f"  {failure}" for failure in tour.failures))
            else:
                print("\nEverything held.")
            if os.environ.get("CI") == "true":
                return 1 if tour.failures else 0
            _print_directions(url, arguments.config)
            return up.wait()
    except KeyboardInterrupt:
        print("\nStopping the gateway and its workers…")
        return 0


def _wait_until_shared_out(url: str) -> None:
    """Until the workers' time up to now is in the bill, which takes a window of it; not for ever."""
    now = datetime.now(UTC)
    asked = urllib.request.Request(f"{url}/admin/v1/usage", headers={"authorization": f"Bearer {ADMIN_KEY}"})
    deadline = time.monotonic() + SHARED_OUT_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            through = json.load(answer)["shared_through"]
        if through is not None and datetime.fromisoformat(through) >= now:
            return
        time.sleep(0.5)
    print("  (the workers' time is not shared out yet: `tollgate report` has it later)")


def _print_report(config: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "gateway.cli", "report", "--by", "tenant,model", "--config", str(config)], check=True
    )


def _print_directions(url: str, config: Path) -> None:
    print(
        f"""
It stays up until Ctrl-C. Point any OpenAI client at it, for example in another terminal:

  export OPENAI_BASE_URL={url}/v1
  export OPENAI_API_KEY=sk-tollgate-demo-research

  models   scribe, scribe-mini, scribe:sql, auto, auto-cheap, auto-fast, gpt-4o, gpt-4o-mini
  config   {config}/   (edit it: changes take effect within 2 s)
  logs     {GATEWAY_LOG} and var/log/workers/
  API      {url}/docs
"""
    )


def _end_with_parent() -> None:
    """In the child: SIGTERM when this process is killed, so that no gateway stays behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
