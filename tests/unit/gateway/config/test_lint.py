"""What must hold between entries. Each case is the valid example with one change and the lines that are then wrong.

A line is expected to be wrong where it carries `#!` (an error) or `#?` (a warning); nothing else may be reported.
"""

import os
import threading
from hashlib import sha256

import pytest

from gateway.config import check
from gateway.config.lint import fleet as lint_fleet
from gateway.config.lint.pending import PENDING
from gateway.config.published import PUBLISHED_KEYS, is_loopback
from tests.certificates import Authority


def marked(files, directory):
    return {
        (str(directory / name), number, severity)
        for name, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        for mark, severity in (("#!", "error"), ("#?", "warning"))
        if mark in line
    }


@pytest.fixture
def expect(write, example, environ):
    """Checks the changed example against its marks; returns the messages.

    A change is (what stands there, what is to stand there); an empty first half adds to the file's end.
    """

    def expected(changes, environ=environ):
        files = dict(example)
        for name, change in changes.items():
            for old, new in change if isinstance(change, list) else [change]:
                assert old in files.get(name, ""), f"{name} does not hold {old!r}"
                files[name] = files[name].replace(old, new) if old else files.get(name, "") + new
        directory = write(files)
        problems = check(directory, environ)
        found = {(problem.file, problem.line, problem.severity) for problem in problems}
        assert found == marked(files, directory), "\n".join(map(str, problems))
        return "\n".join(problem.message for problem in problems)

    return expected


def test_the_example_is_without_fault(expect):
    expect({})


# models.yaml


def test_prices_are_of_models_by_their_own_names(expect):
    price = "{input_usd_per_m: 0.2, output_usd_per_m: 0.6}"
    expect({"models.yaml": ("", f"prices:\n  chat-8b: {price}\n  chat-8b@fp8: {price}\n  chat-8b:support: {price}\n")})
    message = expect(
        {
            "models.yaml": (
                "",
                f"prices:\n  chat-9b: {price} #!\n  chat-8b@fp9: {price} #!\n  helpdesk: {price} #!\n",
            )
        }
    )
    assert "no model is called `chat-9b`: did you mean `chat-8b`?" in message
    assert "`helpdesk` is an alias, and its requests are billed as what it leads to: write `chat-8b:support`" in message


def test_traffic_sums_to_a_hundred_over_known_versions(expect):
    message = expect({"models.yaml": ("traffic: {fp8: 95, int4: 5}", "traffic: {fp8: 95, int4: 6} #!")})
    assert "sums to 101" in message
    message = expect({"models.yaml": ("traffic: {fp8: 95, int4: 5}", "traffic: {fp8: 95, int3: 5} #!")})
    assert "did you mean `int4`?" in message


def test_an_adapter_is_for_tenants_that_exist(expect):
    message = expect({"models.yaml": ("tenants: [support]}", "tenants: [support, suport]} #!")})
    assert "did you mean `support`?" in message


def test_a_version_without_a_worker_is_pointed_out(expect):
    new = "int4: {artifact: a}\n      int2: {artifact: b} #?\n"
    message = expect(
        {
            "models.yaml": ("int4: {artifact: registry/chat-8b/int4, quantization: w4a16, quality: 0.981}\n", new),
            "routes.yaml": ("min_quality: 0.98", "min_quality: 0"),
        }
    )
    assert "no worker serves `chat-8b@int2`" in message


def test_adapters_need_a_worker_with_room(expect):
    message = expect(
        {"fleet.yaml": ("    max_loras: 8\n", ""), "models.yaml": ("    adapters:\n", "    adapters: #?\n")}
    )
    assert "max_loras: 8" in message


@pytest.mark.parametrize("engine", ["tgi", "triton", "openai"])
def test_room_for_adapters_on_an_engine_that_loads_none_is_pointed_out(expect, engine):
    vectors = "serves: vectors@v1, gpu: cpu"
    new = f"engine: {engine}, {vectors}, max_loras: 2}} #?"
    message = expect({"fleet.yaml": (f"engine: tgi, {vectors}}}", new)})
    assert f"`engine: {engine}` loads no adapters" in message


@pytest.mark.parametrize(
    ("aliases", "fragment"),
    [
        ("  x: chat-9b #!\n", "did you mean `chat-8b`?"),
        ("  x: chat-8b@int5 #!\n", "did you mean `int4`?"),
        ("  x: chat-8b:suport #!\n", "did you mean `support`?"),
        ("  x: chat-8b@fp8:suport #!\n", "has no adapter"),
        ("  x: chat-8b@ #!\n", "ends where a name is due"),
        ("  x: y #!\n  y: z #!\n  z: x #!\n", "x → y → z → x"),
        ("  x: x #!\n", "x → x"),
        ("  x: y\n  y: y #!\n", "y → y"),
        ("  big: chat-8b #!\n", "hides"),
        ('  "chat-8b@fp8": big #!\n', "hides"),
        ('  "chat-8b:sql": big #!\n', "hides"),
        ('  "llama3:8b": big\n', ""),
        ("  meta/llama: automatic\n", ""),
    ],
)
def test_aliases_lead_somewhere_and_in_no_circle(expect, aliases, fragment):
    assert fragment in expect({"models.yaml": ("", aliases)})


# fleet.yaml


@pytest.mark.parametrize(
    ("worker", "fragment"),
    [
        ("name: chat-fp8-0, url: 'http://h', serves: chat-8b@fp8, gpu: cpu", "already called `chat-fp8-0`"),
        ("name: n, serves: chat-8b@fp8, gpu: cpu", "has no address"),
        ("name: n, url: 'http://h', serves: chat-8b@fp8", "nothing says what `n` costs"),
        ("name: n, url: 'http://h', serves: chat-8b@fp8, gpu: l40", "did you mean `l40s`?"),
        ("name: n, url: 'http://h', serves: chat-8b, gpu: cpu", "`chat-8b@fp8` or `chat-8b@int4`"),
        ("name: n, url: 'http://h', serves: chat-8b@fp9, gpu: cpu", "did you mean `fp8`?"),
        ("name: n, url: 'http://h', serves: chat-9b@fp8, gpu: cpu", "did you mean `chat-8b`?"),
        ("name: n, url: 'http://h', serves: 'chat-8b@fp8:sql', gpu: cpu", "names an adapter"),
        ("name: n, url: 'http://h', serves: gpt-4o-mini, gpu: cpu", "no model is called `gpt-4o-mini`"),
        ("name: n, serves: chat-8b@fp8, gpu: cpu, launch: {port: 8102}", "belongs to the worker `chat-int4-0`"),
        ("name: n, serves: chat-8b@fp8, gpu: cpu, launch: {port: 4100}", "belongs to the gateway itself"),
        ("name: n, serves: big@hosted, gpu: cpu, launch: {port: 8103}", "has no weights"),
        ("name: n, serves: chat-8b@fp8, gpu: cpu, url: 'http://h:8103', launch: {port: 8103}", "not where `launch`"),
        (
            "name: n, serves: chat-8b@fp8, gpu: cpu, url: 'http://127.0.0.1:1', launch: {port: 8103}",
            "not where `launch`",
        ),
        ("name: n, serves: chat-8b@fp8, gpu: cpu, url: 'dns+https://h:1'", "none would be accepted"),
        ("name: n, serves: chat-8b@fp8, gpu: cpu, url: 'dns+http://h:1', tls: {ca: x.pem}", "not talked to over TLS"),
    ],
)
def test_a_worker_can_be_reached_serves_what_exists_and_costs_something(expect, worker, fragment):
    assert fragment in expect({"fleet.yaml": ("", f"  - {{engine: vllm, {worker}}} #!\n")})


def test_an_address_may_stand_for_several_workers(expect, tmp_path):
    listed = tmp_path / "a list.json"
    listed.write_text("[]")
    for url in ("dns+http://vllm.prod.svc:8000", f"file://{tmp_path}/a%20list.json"):
        expect({"fleet.yaml": ("", f"  - {{engine: vllm, name: n, serves: chat-8b@fp8, gpu: cpu, url: '{url}'}}\n")})


def test_a_file_of_addresses_that_is_not_there_yet_is_pointed_out(expect, tmp_path):
    worker = f"{{engine: vllm, name: n, serves: chat-8b@fp8, gpu: cpu, url: 'file://{tmp_path}/to%20come.yaml'}}"
    message = expect({"fleet.yaml": ("", f"  - {worker} #?\n")})
    assert f"there is no file {tmp_path}/to come.yaml" in message


def test_a_disk_that_does_not_answer_holds_no_check_up(expect, tmp_path, monkeypatch):
    answered, listed = threading.Event(), f"{tmp_path}/a.yaml"
    monkeypatch.setattr(lint_fleet, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(os.path, "exists", lambda path: str(path) == listed and answered.wait(20.0))
    worker = f"{{engine: vllm, name: n, serves: chat-8b@fp8, gpu: cpu, url: 'file://{listed}'}}"
    expect({"fleet.yaml": ("", f"  - {worker}\n")})
    answered.set()


@pytest.mark.parametrize(
    ("url", "fragment"),
    [
        ("file://chat.yaml", "file:///etc/tollgate/chat.yaml"),
        ("file:chat.yaml", "file:///etc/tollgate/chat.yaml"),
        ("file:///chat.txt", "ends in .yaml, .yml or .json"),
        ("file:///etc/tollgate", "ends in .yaml, .yml or .json"),
    ],
)
def test_a_file_of_addresses_is_absolute_and_of_a_kind_that_is_known(expect, url, fragment):
    worker = f"  - {{engine: vllm, name: n, serves: chat-8b@fp8, gpu: cpu, url: '{url}'}} #!\n"
    message = expect({"fleet.yaml": ("", worker)})
    assert "no file of addresses" in message
    assert fragment in message


def test_only_engines_that_can_be_started_are(expect):
    worker = "  - {name: n, engine: sglang, serves: chat-8b@fp8, gpu: cpu, launch: {port: 8103}} #!\n"
    assert "not an engine `tollgate up` can start" in expect({"fleet.yaml": ("", worker)})


@pytest.mark.parametrize("url", ["http://127.0.0.1:8103", "http://localhost:8103/", "http://[::1]:8103"])
def test_an_address_that_agrees_with_the_launch_is_no_fault(expect, url):
    worker = f"  - {{name: n, engine: trtllm, serves: chat-8b@fp8, gpu: cpu, url: '{url}', launch: {{port: 8103}}}}\n"
    expect({"fleet.yaml": ("", worker)})


def test_the_same_engine_twice_is_pointed_out(expect):
    worker = "  - {name: n, engine: vllm, serves: chat-8b@fp8, gpu: cpu, url: 'http://[::1]:8000/'} #?\n"
    assert "counts twice" in expect({"fleet.yaml": ("", worker)})


def test_a_key_in_the_clear_is_pointed_out(expect):
    assert "${env:NAME}" in expect({"hosted.yaml": ("${env:BURST_KEY}", "sk-abc #?")})


def test_a_secret_that_is_not_set_is_named(expect):
    message = expect({"hosted.yaml": ("${env:BURST_KEY}", "${env:BURST_KEY} #!")}, environ={})
    assert "export BURST_KEY=" in message


def test_an_authority_is_a_readable_file_of_certificates(expect, tmp_path):
    def tls(ca):
        return {"hosted.yaml": ("    price:", f"    tls: {{ca: {ca}}} #!\n    price:")}

    assert "cannot be read (No such file or directory): name a PEM file" in expect(tls("nowhere.pem"))
    for content in (b"", b"words", b"\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        (tmp_path / "ca.pem").write_bytes(content)
        assert "holds no certificate that can be read: write the authority's" in expect(tls("ca.pem"))
    (tmp_path / "ca.pem").write_bytes(bytes(1024 * 1024 + 1))
    assert "is larger than 1024 KB" in expect(tls("ca.pem"))
    authority = Authority(tmp_path / "tls")
    for ca in ("tls/ca.pem", authority.ca):
        expect({"hosted.yaml": ("    price:", f"    tls: {{ca: {ca}}}\n    price:")})


def test_tls_is_for_workers_that_speak_it(expect, tmp_path):
    Authority(tmp_path)
    change = [("https://api", "http://api"), ("    price:", "    tls: {ca: ca.pem} #!\n    price:")]
    assert "write its `url` with https://" in expect({"hosted.yaml": change})
    assert "has no `ca`" in expect({"hosted.yaml": ("    price:", "    tls: {} #!\n    price:")})


# routes.yaml

NEW = "  - name: new{}\n    match: {}\n    candidates: {}\n"


@pytest.mark.parametrize(
    ("match", "candidates", "fragment"),
    [
        ("{model: x}", "[chat-9b] #!", "did you mean `chat-8b`?"),
        ("{model: x}", "[chat-8b@int5] #!", "did you mean `int4`?"),
        ("{model: x}", "[chat-8b, big, chat-8b] #!", "here twice"),
        ("{model: x}", "[x] #!", "x` leads back to this route (new → new)"),
        ("{model: x}", "[automatic] #!", "what a route matches, not a model"),
        ("{model: x}", "[smart] #!", "`smart` is what a route matches"),
        ("{model: chat-8b@int5} #!", "[big]", "did you mean `int4`?"),
        ("{model: x, tenant: reserch} #!", "[big]", "did you mean `research`?"),
        ("{model: x, tier: [gold, platinum]} #!", "[big]", "no tenant is of the tier `platinum`"),
        ("{model: x, tenant: research, tier: standard} #!", "[big]", "nobody gets here"),
        ("{model: x, max_prompt_tokens: 40000} #!", "[big, chat-8b]", "at most 32768"),
        ("{model: chat8b} #?", "[big]", "write `chat-8b` if that is meant"),
        ("{model: x, tenant: [support, research], tier: gold}", "[helpdesk, 'chat-8b@fp8:sql']", ""),
    ],
)
def test_a_route_names_what_exists_and_can_apply(expect, match, candidates, fragment):
    assert fragment in expect({"routes.yaml": ("", NEW.format("", match, candidates))})


@pytest.mark.parametrize(
    ("match", "by"),
    [
        ("{model: auto, tenant: research}", "`rest`"),
        ("{model: [automatic, auto], tenant: [research]}", "`rest`"),
        ("{model: smart, tenant: research}", "`rest`"),  # an alias of auto
        ("{model: automatic, tenant: research, tier: gold, max_prompt_tokens: 5}", "`rest`"),
    ],
)
def test_a_route_that_an_earlier_one_hides_is_told(expect, match, by):
    message = expect({"routes.yaml": ("", NEW.format(" #!", match, "[big]"))})
    assert "never reached" in message
    assert by in message


@pytest.mark.parametrize("match", ["{model: auto}", "{tenant: research}", "{model: auto, tier: standard}", "{}"])
def test_a_route_that_has_something_left_is_not(expect, match):
    expect({"routes.yaml": ("", NEW.format("", match, "[big]"))})


def test_nothing_comes_after_a_route_that_takes_all(expect):
    """Files are read in the order of their names."""
    message = expect(
        {
            "a.yaml": ("", "routes:\n  - {name: all, candidates: [big]}\n"),
            "routes.yaml": [("- name: cheap-first", "- name: cheap-first #!"), ("- name: rest", "- name: rest #!")],
        }
    )
    assert "`all` (" in message


def test_two_routes_of_one_name(expect):
    text = NEW.format("", "{model: x}", "[big]").replace("name: new", "name: rest #!")
    assert "already called `rest`" in expect({"routes.yaml": ("", text)})


def test_fallbacks_that_lead_in_a_circle_are_told_with_their_way(expect):
    text = (
        "  - {name: one, match: {model: first}, candidates: [big], fallback: [second]} #!\n"
        "  - {name: two, match: {model: second}, candidates: [big], fallback: [third]} #!\n"
        "  - {name: three, match: {model: third}, candidates: [big], fallback: [big, first]} #!\n"
    )
    message = expect({"routes.yaml": ("", text)})
    assert "one → two → three → one" in message
    assert "three → one → two → three" in message


def test_two_models_may_stand_in_for_each_other(expect):
    text = (
        "  - {name: one, match: {model: big}, candidates: [big], fallback: [chat-8b]}\n"
        "  - {name: two, match: {model: chat-8b}, candidates: [chat-8b], fallback: [big]}\n"
    )
    expect({"routes.yaml": ("", text)})


def test_a_quality_no_candidate_reaches_is_told_with_the_best_there_is(expect):
    old = "candidates: [chat-8b@int4, chat-8b@fp8, big]"
    message = expect(
        {
            "routes.yaml": (
                old + "\n    minimize: cost\n    subject_to: {ttft_p95: 800ms, min_quality: 0.98}",
                "candidates: [chat-8b@int4, chat-8b]\n    subject_to: {min_quality: 0.999} #!",
            )
        }
    )
    assert "the best, `chat-8b`, has 0.995" in message


def test_a_candidate_below_the_quality_is_pointed_out(expect):
    new = "candidates:\n      - chat-8b@int4 #?\n      - big\n    minimize: cost\n    subject_to: {min_quality: 0.99}"
    old = (
        "candidates: [chat-8b@int4, chat-8b@fp8, big]\n    minimize: cost\n"
        "    subject_to: {ttft_p95: 800ms, min_quality: 0.98}"
    )
    assert "never chosen" in expect({"routes.yaml": (old, new)})


def test_parts_longer_than_the_whole_are_told_where_both_are_written(expect):
    old = "timeout: {connect: 2s, first_token: 30s, idle: 20s, total: 10m}"
    message = expect({"routes.yaml": (old, "timeout: {connect: 2s, first_token: 30s, total: 10s} #!")})
    assert "`first_token` is longer than `total`" in message
    expect({"routes.yaml": (old, "timeout: {total: 10s}")})


# tenants.yaml


def test_idle_time_is_reserved_once(expect):
    more = "  a: {{keys: [], reservation: {}}}{}\n  b: {{keys: [], reservation: 25%}} #?\n"
    expect({"tenants.yaml": ("", more.format("75%", " #?").replace("  a: {", "  a: {"))})
    message = expect({"tenants.yaml": ("", more.format("76%", " #! #?"))})
    assert "the reservations of all tenants are 101% of the idle time" in message


@pytest.mark.parametrize(
    ("tenant", "fragment"),
    [
        ("{models: [chat-9b]}", "did you mean `chat-8b`?"),
        ("{models: ['chat-8b:suport']}", "did you mean `support`?"),
        ("{models: ['chat-8b:support']}", "only for support"),
        ("{models: [helpdesk]}", "only for support"),
        ("{budget: {usd: 0.0000000001}}", "less than a billionth"),
        ("{models: []}", ""),
        ("{models: [smart, gpt-4o, 'chat-8b@int4', automatic, vectors]}", ""),
    ],
)
def test_a_tenant_may_ask_for_what_exists_and_lets_it_in(expect, tenant, fragment):
    key = "keys: [{id: a, sha256: 3333333333333333333333333333333333333333333333333333333333333ccc}]"
    mark = " #!" if fragment else ""
    assert fragment in expect({"tenants.yaml": ("", f"  new: {tenant[:-1]}, {key}}}{mark}\n")})


@pytest.mark.parametrize(
    ("asked", "mark", "fragment"),
    [
        ("chat-8b:later", "#?", "POST /admin/v1/adapters"),
        ("chat-8b@fp8:later", "#?", "POST /admin/v1/adapters"),
        ("chat-8b@fp9:later", "#!", "no version `fp9`"),
        ("chat-9b:later", "#!", "did you mean `chat-8b`?"),
        ("chat-8b@fp9", "#!", "no version `fp9`"),
    ],
)
def test_an_adapter_may_be_added_later_where_that_is_allowed(expect, asked, mark, fragment):
    key = "{id: a, sha256: 3333333333333333333333333333333333333333333333333333333333333ccc, models: [%s]}"
    written = f'  new:\n    models: ["{asked}"] {mark}\n    keys:\n      - {key % repr(asked)} {mark}\n'
    allowed = {"gateway.yaml": ("", "adapters: {directories: [/srv/adapters]}\n")}
    assert fragment in expect({**allowed, "tenants.yaml": ("", written)})
    expect({"tenants.yaml": ("", written.replace("#?", "#!"))})


@pytest.mark.parametrize("path", ["adapters", "/", "/srv/../etc", "''", '"/srv\\0"', "7"])
def test_adapters_are_added_beneath_absolute_directories_only(expect, path):
    expect({"gateway.yaml": ("", f"adapters: {{directories: [{path}]}} #!\n")})


def test_a_key_belongs_to_one_owner_under_one_id(expect):
    support = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"
    admin = "1111111111111111111111111111111111111111111111111111111111111aaa"
    message = expect(
        {
            "tenants.yaml": (
                "",
                f"  new:\n    keys:\n      - {{id: a, sha256: {support}}} #!\n"
                f"      - {{id: a, sha256: {'4' * 61}ddd}} #!\n",
            ),
        }
    )
    assert "the same key is already at" in message
    assert "two keys of one owner are called `a`" in message
    changes = {"tenants.yaml": (support, admin), "gateway.yaml": (admin + "}", admin + "} #!")}
    assert "tenants.yaml:4" in expect(changes)


def test_a_tenant_without_a_key_is_pointed_out(expect):
    assert "tollgate keys create new" in expect({"tenants.yaml": ("", "  new: {} #?\n")})


@pytest.mark.parametrize("tenants", ["", "tenants:\n", "tenants: {}\n"])
def test_nobody_can_call_where_there_is_no_tenant(write, tenants):
    problems = check(write({"a.yaml": tenants}), {})
    if "{" in tenants:
        assert problems == []
    else:
        [problem] = problems
        assert problem.severity == "warning"
        assert "nobody can call" in problem.message


# gateway.yaml


def published(text):
    return text.replace("DIGEST", sha256(PUBLISHED_KEYS[0].encode()).hexdigest())


def test_a_published_key_is_pointed_out_and_keeps_the_gateway_on_loopback(expect):
    key = (
        "      - {id: prod, sha256: 5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8}",
        published("      - {id: demo, sha256: DIGEST} #?"),
    )
    expect({"tenants.yaml": key})
    reachable = ("server: {host: 127.0.0.1,", "server:\n  host: 0.0.0.0 #!\n  #")
    message = expect({"tenants.yaml": key, "gateway.yaml": reachable})
    assert "`0.0.0.0` can be reached from outside" in message
    assert "tenants.yaml:4" in message


def test_a_published_admin_key_counts_as_well(expect):
    old = "    - {id: ops, sha256: 1111111111111111111111111111111111111111111111111111111111111aaa}"
    expect({"gateway.yaml": (old, published("    - {id: demo, sha256: DIGEST} #?"))})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("example.com", False),
        ("127.0.0.1.example.com", False),
    ],
)
def test_what_only_this_machine_can_reach(host, loopback):
    assert is_loopback(host) is loopback


def test_a_ledger_that_cannot_be_used_is_told(expect):
    message = expect({"gateway.yaml": ("ledger: sqlite:///var/ledger.db", "ledger: postgresql://db #!")})
    assert "postgresql://USER:PASSWORD@HOST:5432/DATABASE" in message


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sslmod=require", "the parameter `sslmod`, which PostgreSQL does not know: did you mean `sslmode`?"),
        ("zzz=1", "the parameter `zzz`, which PostgreSQL does not know: take it out of the URL"),
        ("sslmode=sometimes", 'PostgreSQL takes (invalid sslmode value: "sometimes"): correct the part after its `?`'),
        ("connect_timeout=soon", 'PostgreSQL takes (invalid connect_timeout value: "soon"): correct'),
        ("password=s3&cr3t=1", "has a parameter, which PostgreSQL does not know: take it out of the URL"),
    ],
)
def test_what_postgresql_does_not_know_in_a_url_is_told(expect, query, said):
    url = f"postgresql://u:s3cr3t@db/ledger?{query}"
    message = expect({"gateway.yaml": ("ledger: sqlite:///var/ledger.db", f'ledger: "{url}" #!')})
    assert said in message
    assert "cr3t" not in message


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?ssl=true",
        "?sslmode=verify-full&connect_timeout=3&keepalives=0",
        "?options=-csearch_path%3Dledger",
        "?target_session_attrs=read-write&load_balance_hosts=random",
    ],
)
@pytest.mark.parametrize("hosts", ["db", "u@db:5433", "u:p?q@a:1,b:2", "[::1]:5432"])
def test_urls_that_postgresql_takes(expect, hosts, query):
    url = f"postgresql://{hosts}/ledger{query}"
    expect({"gateway.yaml": ("ledger: sqlite:///var/ledger.db", f'ledger: "{url}"')})


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "/dev",
            "`/dev` is a directory, and the ledger is a file: write for example `ledger: sqlite:///var/ledger.db`",
        ),
        ("/dev/null", "`/dev/null` is no file of a disk"),
        ("/dev/null/ledger.db", "`/dev/null` is no directory"),
    ],
)
def test_an_sqlite_ledger_is_a_file_in_a_directory(expect, path, said):
    message = expect({"gateway.yaml": ("ledger: sqlite:///var/ledger.db", f"ledger: sqlite:///{path} #!")})
    assert said in message


@pytest.mark.parametrize("path", ["/dev/null", "/dev/null/ledger.journal"])
def test_the_journal_is_a_directory(expect, path):
    message = expect({"gateway.yaml": ("", f"metering:\n  journal: {path} #!\n")})
    assert "`/dev/null` is no directory: write the path of one, which need not be there yet" in message


@pytest.mark.parametrize("path", ["", "new", "new/still"])
def test_a_journal_may_be_there_or_made(expect, tmp_path, path):
    expect({"gateway.yaml": ("", f"metering:\n  journal: {tmp_path / path}\n")})


@pytest.mark.parametrize("path", ["/dev/null", "/dev/null/d"])
def test_decisions_are_kept_in_a_directory(expect, path):
    message = expect({"gateway.yaml": ("", f"decisions:\n  directory: {path} #!\n")})
    assert "`/dev/null` is no directory: write the path of one" in message
    expect({"gateway.yaml": ("", f"decisions:\n  keep_mb: 0\n  directory: {path}\n")})


def test_a_directory_of_decisions_may_be_there_or_made(expect, tmp_path):
    for path in ("", "new", "new/still"):
        expect({"gateway.yaml": ("", f"decisions:\n  directory: {tmp_path / path}\n")})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_decisions_need_a_directory_that_can_be_written(expect, tmp_path):
    tmp_path.chmod(0o500)
    message = expect({"gateway.yaml": ("", f"decisions:\n  directory: {tmp_path} #?\n")})
    assert "may not write" in message


def test_workers_are_not_read_all_the_time(expect):
    message = expect({"gateway.yaml": ("", "metering:\n  readings: 1ms #!\n")})
    assert "write `readings: 100ms` or more" in message
    expect({"gateway.yaml": ("", "metering:\n  readings: 100ms\n")})


# pending

PENDING_CASES = {
    ("mode",): {"routes.yaml": ("    minimize: cost\n", "    minimize: cost\n    mode: shadow #?\n")},
    ("log", "format"): {"gateway.yaml": ("log: {format: json, prompts: hash}", "log: {format: text} #?")},
}


def test_every_key_without_an_effect_has_a_case():
    assert {pending.keys for pending in PENDING} == set(PENDING_CASES)


@pytest.mark.parametrize("keys", PENDING_CASES, ids=".".join)
def test_a_key_without_an_effect_says_so(expect, keys):
    message = expect(PENDING_CASES[keys])
    assert f"`{'.'.join(keys)}` has no effect yet" in message


# several at once


def test_everything_wrong_is_told_in_one_go(expect):
    expect(
        {
            "gateway.yaml": ("log: {format: json, prompts: hash}", "log: {format: josn} #!"),
            "models.yaml": ("  gpt-4o-mini: chat-8b\n", "  gpt-4o-mini: chat-8b\n  x: y #!\n"),
            "fleet.yaml": ("    gpu: l40s\n    gpus: 2\n", "    gpu: l40 #!\n    gpus: 0 #!\n"),
            "routes.yaml": (
                "candidates: [chat-8b@int4, chat-8b@fp8, big]\n    minimize: cost\n",
                "candidates: [chat-8b@int5, chat-8b@fp8, big] #!\n    minimise: cost #!\n",
            ),
            "tenants.yaml": ("models: [chat-8b, ", "limts: {} #!\n    models: [chat-9b, #!\n   "),
            "more.yaml": ("", "gpus: {cpu: {hourly_usd: 1}} #!\nwrokers: [] #!\n"),
        }
    )


def test_a_file_that_cannot_be_read_does_not_make_others_wrong(expect):
    """What it holds may be all that the others name; what is wrong in themselves is told all the same."""
    expect(
        {
            "models.yaml": ("# written by people\n", "a: b: c #!\n"),
            "routes.yaml": ("    minimize: cost\n", "    minimise: cost #!\n"),
        }
    )


def test_a_faulty_route_does_not_make_the_names_it_matches_wrong(expect):
    """Tenants and an alias name `auto`, which nothing but the faulty route may match."""
    elsewhere = ("[auto, automatic]", "[automatic]")
    expect({"routes.yaml": [elsewhere, ("    minimize: cost\n", "    minimize: costs #!\n")]})
    faulty = ("match: {model: auto, tier: [standard], max_prompt_tokens: 8000}", "mach: {model: auto} #!")
    expect({"routes.yaml": [elsewhere, faulty]})


@pytest.mark.parametrize("window", ["7s", "2h", "61m", "1700ms"])
def test_an_hour_is_a_whole_number_of_windows(expect, window):
    message = expect({"gateway.yaml": ("", f"metering:\n  window: {window} #!\n")})
    assert "write for example `window: 60s`" in message


@pytest.mark.parametrize("window", ["500ms", "1s", "7500ms", "10s", "1h"])
def test_windows_that_end_with_the_hour(expect, window):
    expect({"gateway.yaml": ("", f"metering:\n  window: {window}\n")})


def test_rows_are_kept_for_two_days_at_least(expect):
    message = expect({"gateway.yaml": ("", "metering:\n  retention: 36h #!\n")})
    assert "write `retention: 2d` or more" in message
    expect({"gateway.yaml": ("", "metering:\n  retention: 2d\n")})
