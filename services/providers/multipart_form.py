"""Reads multipart/form-data (RFC 7578) as bytes: what its texts are encoded in is for the caller to know."""

from dataclasses import dataclass
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.providers.base import MalformedWebhookError, WebhookRequest

_FORM: Final = "multipart/form-data"
_MAX_PARTS: Final = 1000
_MAX_HEADER_SIZE: Final = 16_384


@dataclass(slots=True)
class FormPart:
    """One field or file. `filename` is empty for fields; texts of headers are UTF-8 where they can be."""

    name: str = ""
    filename: str = ""
    content_type: str = ""
    content: bytes = b""


def is_form(request: WebhookRequest) -> bool:
    """Tell whether a request says that its body is a form of this kind."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM


def parse_form(request: WebhookRequest) -> list[FormPart]:
    """Return the parts in their order, or raise MalformedWebhookError."""
    reader = _Reader()
    try:
        _, options = parse_options_header(request.headers.get("content-type", ""))
        boundary = options.get(b"boundary", b"")
        if not boundary:
            raise MalformedWebhookError("content-type has no boundary")
        parser = MultipartParser(boundary, reader.callbacks(), max_header_size=_MAX_HEADER_SIZE)  # type: ignore[arg-type]  # the library's TypedDict cannot be built by name
        parser.write(request.body)
        parser.finalize()
    except (FormParserError, UnicodeError):
        raise MalformedWebhookError("body is not multipart/form-data") from None
    if not reader.ended:
        raise MalformedWebhookError("body is not multipart/form-data: it has no end")
    return reader.parts


class _Reader:
    """Collects what the parser comes upon."""

    def __init__(self) -> None:
        self.parts: list[FormPart] = []
        self.ended = False
        self._content: list[bytes] = []
        self._header: list[bytes] = []
        self._value: list[bytes] = []

    def callbacks(self) -> dict[str, object]:
        """Return the parser's table of calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.append(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.append(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._content.append(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.parts) == _MAX_PARTS:
            raise MalformedWebhookError(f"body has more than {_MAX_PARTS} parts")
        self.parts.append(FormPart())

    def _end_header(self) -> None:
        name, value = b"".join(self._header).lower(), _text(b"".join(self._value))
        self._header, self._value = [], []
        part = self.parts[-1]
        if name == b"content-type":
            part.content_type = value
        elif name == b"content-disposition":
            # The library reads latin-1; what it returns is turned back into the bytes that came.
            _, options = parse_options_header(value.encode().decode("latin-1"))
            part.name = _text(options.get(b"name", b""))
            part.filename = _text(options.get(b"filename", b""))

    def _end(self) -> None:
        self.parts[-1].content = b"".join(self._content)
        self._content = []

    def _finish(self) -> None:
        self.ended = True


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
