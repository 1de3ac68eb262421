"""Multipart bodies: the field the gateway reads is the one the worker reads, and only that one is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from gateway.errors import BadRequest
from gateway.protocol.endpoints import ENDPOINTS
from gateway.protocol.multipart import MAX_PARTS
from gateway.protocol.request import MEDIA_BYTES, Request, multipart_with_model, read_request

AUDIO = ENDPOINTS["/v1/audio/transcriptions"]
BOUNDARY_CHARS = "0123456789abcXYZ'()+_,-./:=?"


def read(body: bytes, boundary: bytes = b"b", content_type: bytes | None = None) -> Request:
    return read_request(AUDIO, content_type or b'multipart/form-data; boundary="%b"' % boundary, body)


def part(value: bytes, disposition: bytes) -> bytes:
    return b"Content-Disposition: form-data; " + disposition + b"\r\n\r\n" + value


def form(*parts: bytes, boundary: bytes = b"b", end: bytes = b"--\r\n") -> bytes:
    return b"".join(b"--%b\r\n%b\r\n" % (boundary, each) for each in parts) + b"--" + boundary + end


MODEL = part(b"whisper", b'name="model"')
FILE = part(bytes(range(256)) * 4, b'name="file"; filename="a.wav"')


def as_the_worker_reads(content_type: bytes, body: bytes) -> list[str | None]:
    """Every `model` field, read by the form parser that engines built on Starlette use; None for one that is a file."""

    async def parse() -> list[str | None]:
        async def stream() -> AsyncGenerator[bytes, None]:
            yield body

        headers = Headers({"content-type": content_type.decode("latin-1")})
        form = await MultiPartParser(headers, stream()).parse()
        values = [None if isinstance(value, UploadFile) else value for value in form.getlist("model")]
        await form.close()
        return values

    return asyncio.run(parse())


# Reading


@pytest.mark.parametrize(
    "disposition",
    [b'name="model"', b"name=model", b'NAME="model"', b' name="model" ;', b'x="a;b\\"; name=\\"c"; name="model"'],
)
def test_the_model_is_a_text_field(disposition: bytes) -> None:
    request = read(form(FILE, part(b"whisper@int8", disposition)))
    assert (request.model, request.stream, request.fields) == ("whisper@int8", False, None)


@pytest.mark.parametrize(("value", "stream"), [(b"true", True), (b" True ", True), (b"false", False), (b"1", False)])
def test_a_form_can_ask_for_a_stream(value: bytes, stream: bool) -> None:
    assert read(form(MODEL, part(value, b'name="stream"'))).stream is stream


def test_other_headers_and_what_follows_the_end_do_not_matter() -> None:
    odd = b'content-type: text/plain\r\nX-Name: name="model"\r\nCONTENT-DISPOSITION:form-data;name=model\r\n\r\nw'
    assert read(form(odd) + form(part(b"other", b'name="model"'))).model == "w"


def test_a_recording_counts_for_a_thousand_tokens_not_for_its_bytes() -> None:
    recording = part(bytes(10_000_000), b'name="file"; filename="a.wav"')
    assert read(form(MODEL, recording)).estimated_prompt_tokens < MEDIA_BYTES // 4 + 100
    long_text = part(b"x" * 400_000, b'name="prompt"')
    assert read(form(MODEL, long_text)).estimated_prompt_tokens > 100_000


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"application/json",
        b"multipart/mixed; boundary=b",
        b"multipart/form-database; boundary=b",
        b"multipart/form-data",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=b; boundary=c",
        b"multipart/form-data; boundary*=utf-8''b",
        b"multipart/form-data; boundary*=idna''%ff",
        b"multipart/form-data; boundary=\xff",
        b'multipart/form-data; boundary="b\\"',
        b'multipart/form-data; boundary="b\r\nx: y"',
        b'multipart/form-data; boundary="b "',
        b"multipart/form-data; boundary=" + b"b" * 71,
    ],
)
def test_a_content_type_without_one_plain_boundary_is_refused(content_type: bytes) -> None:
    with pytest.raises(BadRequest, match="boundary"):
        read_request(AUDIO, content_type, form(MODEL))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "begin"),
        (form(MODEL, boundary=b"other"), "begin"),
        (b"preamble\r\n" + form(MODEL), "begin"),
        (form(), "must provide a model"),
        (form(FILE), "must provide a model"),
        (form(part(b"", b'name="model"')), "must provide a model"),
        (form(part(b"\xff", b'name="model"')), "UTF-8"),
        (form(part(b"a\nb", b'name="model"')), "printable"),
        (form(part(b"w", b'name="model"; filename="x"')), "once, as text"),
        (form(part(b"w", b"name=\"model\"; filename*=utf-8''x")), "once, as text"),
        (form(MODEL, FILE, part(b"other", b"name=model")), "once, as text"),
        (form(MODEL, part(b"true", b"name=stream"), part(b"false", b"name=stream")), "once, as text"),
        (form(MODEL)[:-10], "missing"),
        (form(MODEL, end=b" \r\n"), "alone on its line"),
        (form(MODEL, end=b"x"), "alone on its line"),
        (form(MODEL, end=b"-"), "alone on its line"),
        (form(part(b"w\r\n--bc", b'name="model"')), "alone on its line"),
        (b"--b\r\nContent-Disposition: form-data; name=model", "no end"),
        (b"--b\r\n" + b"x" * 10_000 + b"\r\n\r\n", "no end"),
        (form(b"\r\nw"), "header that is none"),
        (form(b"no colon\r\n\r\nw"), "header that is none"),
        (form(b"a b: c\r\n\r\nw"), "header that is none"),
        (form(b"a: b\rc: d\r\n\r\nw"), "header that is none"),
        (form(b"a: b\nContent-Disposition: form-data; name=model\r\n\r\nw"), "header that is none"),
        (form(b"a: b\r\n\r\nw"), "one plain name"),
        (
            form(b"Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=model\r\n\r\nw"),
            "plain",
        ),
        (form(b"Content-Disposition: attachment; name=model\r\n\r\nw"), "plain"),
        (form(part(b"w", b"filename=x")), "plain"),
        (form(part(b"w", b"name=a; name=model")), "plain"),
        (form(part(b"w", b"name=\"a\"; name*=utf-8''model")), "plain"),
        (form(part(b"w", b'name="mod\\el"')), "plain"),
        (form(part(b"w", b"name = model")), "plain"),
        (form(part(b"w", b'name="model')), "plain"),
        (form(*[part(b"x", b"name=x")] * MAX_PARTS, MODEL), "more than"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(body: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        read(body)


# The worker's reading

values = st.binary(max_size=20) | st.sampled_from([b"\r\n", b"--b", b"\r\n--b", b"\r\n--b--", MODEL])
dispositions = st.sampled_from(
    [b'name="model"', b"name=model", b'name="file"; filename="x"', b'name="model"; filename="x"', b"name=x; name=model"]
)
pieces = st.sampled_from(
    [b"--b", b"\r\n", b"\n", b"--", b" ", b"-", MODEL, FILE, b"Content-Disposition: form-data; name=model", b": ", b"x"]
)


@given(
    st.lists(st.builds(part, values, dispositions), max_size=4).map(lambda p: form(*p)) | st.lists(pieces).map(b"".join)
)
@example(form(MODEL, part(b"other", b"name=model")))
@example(b"--b\r\n" + MODEL + b"\r\n--b \r\n" + part(b"other", b"name=model") + b"\r\n--b--")
@example(form(part(b"x\r\n--bz\r\n" + MODEL, b"name=a"), MODEL))
def test_a_worker_reads_the_same_model_in_every_body_that_passes(body: bytes) -> None:
    try:
        request = read(body)
    except BadRequest:
        return
    try:
        seen = as_the_worker_reads(request.content_type, body)
    except MultiPartException:  # stricter still: it refuses
        return
    assert seen == [request.model]


boundaries = st.text(BOUNDARY_CHARS, min_size=1, max_size=70).map(str.encode)
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=50)


@given(boundaries, st.lists(st.binary(max_size=50), max_size=3), names, names, st.data())
def test_replacing_the_model_changes_no_other_byte(
    boundary: bytes, files: list[bytes], model: str, engine: str, data: st.DataObject
) -> None:
    parts = [part(content, b'name="f%d"; filename="x"' % i) for i, content in enumerate(files)]
    at = data.draw(st.integers(0, len(parts)))

    def with_model(name: str) -> bytes:
        return form(*parts[:at], part(name.encode(), b'name="model"'), *parts[at:], boundary=boundary)

    body = with_model(model)
    if body.count(b"--" + boundary) != len(parts) + 2:
        return  # a value holds the boundary: no client would choose it
    request = read(body, boundary)
    assert request.model == model
    assert multipart_with_model(request, engine) == with_model(engine)
    assert as_the_worker_reads(request.content_type, multipart_with_model(request, engine)) == [engine]
