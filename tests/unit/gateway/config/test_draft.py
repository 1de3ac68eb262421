"""What does not fit the written models: the place, the kind of misfit in words, and what to write instead."""

import pytest

from gateway.config.draft import draft
from gateway.config.source import read

SECRET = "hunter2 hunter2"


@pytest.mark.parametrize(
    ("text", "line", "fragments"),
    [
        # keys
        ("wrokers: []\n", 1, ["unknown top-level key `wrokers`", "did you mean `workers`?"]),
        ("server:\nwrokers:\n", 2, ["unknown top-level key `wrokers`"]),
        ("server:\n  prot: 1\n", 2, ["unknown key `prot` in `server`", "did you mean `port`?"]),
        ("server: {zzz: 1}\n", 1, ["unknown key `zzz` in `server`", "write one of `drain_seconds`, `host`"]),
        ("tenants:\n  a:\n    limits:\n      rmp: 1\n", 4, ["`rmp` in `tenants.a.limits`", "did you mean `rpm`?"]),
        ("workers:\n  - {name: a, serves: m@v}\n", 2, ["`workers.a` has no `engine`", "`engine: vllm`"]),
        ("models:\n  m: {context: 10}\n", 2, ["`models.m` has no `versions`", "`versions: {fp8:"]),
        ("routes:\n  - candidates: [a]\n", 2, ["`routes.0` has no `name`"]),
        # kinds
        ("server: []\n", 1, ["`server` is a list and must be a mapping", "server: {host: 127.0.0.1,"]),
        ("server: {port: '4000'}\n", 1, ["the text `4000`", "a whole number", "`port: 4000`"]),
        ("server: {port: 4000.5}\n", 1, ["is 4000.5 and must be a whole number"]),
        ("server: {port: true}\n", 1, ["`server.port`", "a whole number"]),
        ("server:\n  port:\n", 2, ["`server.port` is empty", "delete the key"]),
        ("server: {drain_seconds: .inf}\n", 1, ["is .inf and must be a finite number"]),
        ("server: {drain_seconds: .nan}\n", 1, ["a finite number"]),
        ("tenants: {a: {tier: 8}}\n", 1, ["`tenants.a.tier` is a number", 'quote it: "8"']),
        ("tenants: {a: {tier: 1.10}}\n", 1, ['quote it: "1.10"']),
        ("tenants: {a: {tier: true}}\n", 1, ["is a boolean", 'quote it: "true"']),
        (
            "workers:\n  - {name: a, engine: vllm, serves: m@v, launch: {port: 1, args: [-n, 8]}}\n",
            2,
            ['quote it: "8"'],
        ),
        ("tenants: {a: {keys: {id: x}}}\n", 1, ["`tenants.a.keys` is a mapping and must be a list"]),
        ("tenants: [a]\n", 1, ["`tenants` is a list and must be a mapping"]),
        ("workers: {a: b}\n", 1, ["`workers` is a mapping and must be a list"]),
        ("workers: [a]\n", 1, ["`workers.0` is text and must be a mapping"]),
        ("tenants: {a: }\n", 1, ["`tenants.a` is empty"]),
        # sizes
        ("server: {port: 0}\n", 1, ["must be at least 1, not 0"]),
        ("server: {port: 70000}\n", 1, ["must be at most 65535, not 70000"]),
        (
            "tenants: {a: {limits: {rpm: 0}}}\n",
            1,
            ["at least 1", "`rpm: 600` (requests per minute; left out: no limit)"],
        ),
        ("tenants: {a: {budget: {usd: 0}}}\n", 1, ["must be more than 0"]),
        ("tenants: {a: {weight: -1}}\n", 1, ["must be more than 0"]),
        ("models: {m: {context: 1, versions: {}}}\n", 1, ["`models.m.versions` is empty"]),
        ("models: {m: {context: 1, versions: {v: {quality: 1.1}}}}\n", 1, ["must be at most 1"]),
        ("models: {m: {context: 1, versions: {v: {digest: abc}}}}\n", 1, ["not the digest of an artifact", "register"]),
        (
            "models: {m: {context: 1, versions: {v: {requires: {compute_capability: 8.95}}}}}\n",
            1,
            ["8.95 is not a compute capability", "`8.9`"],
        ),
        (
            "models: {m: {context: 1, versions: {v: {requires: {driver: 580.65}}}}}\n",
            1,
            ["is a number", 'quote it: "580.65"'],
        ),
        ("models: {m: {context: 1, versions: {v: {requires: {driver: '580x'}}}}}\n", 1, ["not a driver version"]),
        ("models: {m: {context: 1, versions: {v: {requires: {memory_gb: 0}}}}}\n", 1, ["must be more than 0"]),
        ("models: {m: {context: 1, versions: {v: {}}, traffic: {v: 101}}}\n", 1, ["must be at most 100"]),
        ("routes: [{name: r, candidates: []}]\n", 1, ["`routes.r.candidates` is empty"]),
        ("routes: [{name: r, candidates: ['']}]\n", 1, ["`` cannot be asked for"]),
        (f"models: {{m: {{context: 1, versions: {{v: {{artifact: {'a' * 1001}}}}}}}}}\n", 1, ["is longer than 1000"]),
        # words and shapes
        ("log: {format: jsno}\n", 1, ["cannot be `jsno`", "did you mean `json`?"]),
        ("log: {prompts: 3}\n", 1, ["cannot be `3`", "`full`, `hash`, `none` or `redacted`"]),
        ("cache: {default_ttl: 10}\n", 1, ["`10` has no unit", "`10s`"]),
        ("routes: [{name: r, candidates: [a], retry: {budget: 0.1}}]\n", 1, ["no percent sign", "`0.1%`"]),
        ("routes: [{name: r, candidates: [a], hedge: {after: soon}}]\n", 1, ["`soon`", "`p95`, or a duration"]),
        (
            "routes: [{name: r, candidates: [a], minimize: quality}]\n",
            1,
            ["cannot be `quality`", "`cost` or `latency`"],
        ),
        ("server: {host: 'a b'}\n", 1, ["`a b` is not an address"]),
        ("state: mysql://x\n", 1, ["`mysql` is no kind of store", "memory://"]),
        ("state: redis://\n", 1, ["ends after its scheme"]),
        ("ledger: var/ledger.db\n", 1, ["begin with sqlite:///"]),
        ("ledger: sqlite:///\n", 1, ["ends after its scheme"]),
        ("telemetry: {otlp_endpoint: 'localhost:4318'}\n", 1, ["not an http address"]),
        ("tenants: {a b: {}}\n", 1, ["`a b` cannot be a name", "letters, digits"]),
        ("tenants: {__idle__: {}}\n", 1, ["cannot be a name", "beginning with a letter or digit"]),
        ("models: {'m@v': {context: 1, versions: {v: {}}}}\n", 1, ["`m@v` cannot name a model"]),
        ("tenants: {a: {keys: [{id: x, sha256: 5E88}]}}\n", 1, ["is a number", 'quote it: "5E88"']),
        ("tenants: {a: {keys: [{id: x, sha256: '5E88'}]}}\n", 1, ["not a SHA-256 digest", "tollgate keys create"]),
        ("admin: {keys: [{id: x, sha256: abc}]}\n", 1, ["`admin.keys.x.sha256`", "not a SHA-256 digest"]),
        ("workers: [{name: a, engine: vllm, serves: m@v, url: 'ftp://x'}]\n", 1, ["not a worker's address"]),
        ("workers: [{name: a, engine: vllm, serves: m@v, url: 'http://x:99999'}]\n", 1, ["port 99999 does not exist"]),
        ("workers: [{name: a, engine: vllm, serves: m@v, url: 'http://u:p@x'}]\n", 1, ["not a worker's address"]),
        ("workers: [{name: a, engine: vllm, serves: m@v, api_key: 'a b'}]\n", 1, ["cannot stand in a header"]),
        ("workers: [{name: a, engine: vlm, serves: m@v}]\n", 1, ["did you mean `vllm`?"]),
    ],
)
def test_each_misfit_says_where_what_and_what_instead(write, text, line, fragments):
    source = read(write({"a.yaml": text}), {})
    draft(source)
    [problem] = source.findings.sorted()
    assert problem.line == line
    assert problem.severity == "error"
    for fragment in fragments:
        assert fragment in problem.message


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.5:8000",
        "https://worker.example.com",
        "http://[::1]:8000",
        "http://[fe80::1]",
        "dns+http://vllm-chat.prod.svc:8000",
        "https://api.example.com/v1",
        "http://vllm_0:8000/",
    ],
)
def test_addresses_of_workers(write, url):
    source = read(write({"a.yaml": f"workers: [{{name: a, engine: vllm, serves: m@v, url: '{url}'}}]\n"}), {})
    [worker] = draft(source).workers
    assert worker is not None
    assert worker.url == url
    assert source.findings.sorted() == []


def test_all_misfits_of_all_entries_are_told_at_once(write):
    text = "server: {prot: 1, host: 3}\nworkers:\n  - {nme: a}\n  - 7\ntenants: {a: {tier: 1}, b: {weight: x}}\n"
    source = read(write({"a.yaml": text}), {})
    draft(source)
    lines = [problem.line for problem in source.findings.sorted()]
    assert lines == [1, 1, 3, 3, 3, 3, 4, 5, 5]


def test_what_holds_a_secret_is_never_repeated(write):
    text = "state: ${env:A}\nworkers:\n  - {name: a, engine: vllm, serves: m@v, api_key: '${env:A}', url: '${env:A}'}\n"
    text += "cache: {default_ttl: '${env:A}'}\nlog: {format: '${env:A}'}\nserver: {port: '${env:A}'}\n"
    source = read(write({"a.yaml": text}), {"A": SECRET})
    draft(source)
    problems = source.findings.sorted()
    assert [problem.line for problem in problems] == [1, 3, 3, 4, 5, 6]
    for problem in problems:
        assert "hunter2" not in problem.message
        assert "${env:A}" in problem.message
        assert "write for example" in problem.message


def test_a_misfit_that_was_told_already_is_not_told_twice(write):
    source = read(write({"a.yaml": "server: {port: no}\nledger: ${env:NONE}\n"}), {})
    draft(source)
    assert [problem.line for problem in source.findings.sorted()] == [1, 2]


def test_an_entry_without_its_faulty_optional_keys_is_kept_as_partial(write):
    text = "routes:\n  - {name: r, candidates: [m], mode: enforced, retry: {attempts: x}, fallbck: [n]}\n"
    drafted = draft(read(write({"a.yaml": text}), {}))
    [route] = drafted.routes
    assert route is not None
    assert route.candidates == ["m"]
    assert route.mode == "enforce"
    assert not drafted.whole("routes", 0)
    assert len(drafted.source.findings.sorted()) == 3


def test_an_entry_that_lacks_what_it_needs_is_known_by_name_only(write):
    drafted = draft(
        read(write({"a.yaml": "models: {m: {context: 0, versions: {v: {}}}, n: {}}\nroutes: [{name: r}]\n"}), {})
    )
    assert drafted.models == {"m": None, "n": None}
    assert drafted.routes == [None]


def test_settings_that_fit_are_kept_beside_those_that_do_not(write):
    drafted = draft(read(write({"a.yaml": "server: {port: 0}\nstate: redis://h\n"}), {}))
    assert drafted.settings.state == "redis://h"
    assert drafted.settings.server.port == 4000
