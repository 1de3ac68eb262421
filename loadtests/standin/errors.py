"""What vLLM says when it refuses: status, type and message of every error the stand-in can give."""

from __future__ import annotations

import json
from http import HTTPStatus

import orjson

BUSY = "The engine is currently busy and cannot accept new requests. Please try again later or on a different instance."


class Refusal(Exception):
    """A request that gets an error in vLLM's shape instead of an answer."""

    is_form_error = False  # raised before an endpoint sees the request, so always in the one general shape

    def __init__(self, status: int, message: str, *, type: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = HTTPStatus(status).phrase if type is None else type
        self.param = param

    def fields(self) -> dict[str, object]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.status}

    def body(self) -> bytes:
        return orjson.dumps({"error": self.fields()})

    def anthropic_body(self) -> bytes:
        """/v1/messages answers in Anthropic's shape, but only once the body has passed validation."""
        return orjson.dumps({"type": "error", "error": {"type": self.type, "message": self.message}})

    def frame(self) -> bytes:
        """The error as an event inside a 200 stream. vLLM writes this one with json.dumps: blanks after the commas."""
        return b"data: " + json.dumps({"error": self.fields()}).encode() + b"\n\n"


class FormError(Refusal):
    is_form_error = True

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(400, message, param=param)


def refused(status: int) -> Refusal:
    """The refusal for a status the request asked for; 503 is what an engine with a full queue says."""
    return Refusal(status, BUSY if status == 503 else f"The stand-in was asked to answer {status}.")


def bad_parameter(param: str, message: str) -> Refusal:
    """A value the engine refuses after the request's form was accepted."""
    return Refusal(400, f"{message} (parameter={param})", type="BadRequestError", param=param)


def bad_value(param: str, value: object, message: str) -> Refusal:
    return Refusal(400, f"{message} (parameter={param}, value={value})", type="BadRequestError", param=param)


def malformed(kind: str, param: str, message: str, given: object) -> Refusal:
    """A body whose form is wrong, in the words pydantic uses."""
    shown = f"<dict of {len(given)} items>" if isinstance(given, dict) else given  # pyright: ignore[reportUnknownArgumentType]
    entry = {"type": kind, "loc": param, "msg": message, "input": shown}
    return FormError(f"1 validation error:\n  {entry}", param=param)


def missing(param: str, given: object) -> Refusal:
    return malformed("missing", f"body.{param}", "Field required", given)


def unknown_model(name: str, served: tuple[str, ...]) -> Refusal:
    """`served` are the base model's names; vLLM keeps the adapters' to itself."""
    message = f"The model `{name}` does not exist. Valid aliases: {', '.join(served)}."
    return Refusal(404, message, type="NotFoundError", param="model")
