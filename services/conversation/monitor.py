"""The client of the Collections Monitor, the register of tenants. Answers are values, failures too."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx2
import phonenumbers
from pydantic import BaseModel, Field, ValidationError

from services.conversation.language_words import LANGUAGES

_NOT_DIGIT = re.compile(r"\D")
_NOT_FOUND: Final = 404


class Tenant(BaseModel):
    """A tenant as the register has them. What else it says is left alone."""

    tenant_id: str = Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]+$")
    name: str | None = Field(default=None, max_length=500)
    phone_numbers: list[str] = Field(default_factory=list)
    language_preference: str | None = Field(default=None, max_length=35)

    @property
    def language(self) -> str | None:
        """Return the preferred language as one of ours, None when it is none of them: es of "es-MX"."""
        word = (self.language_preference or "")[:2].lower()
        return word if word in LANGUAGES else None


class _Tenants(BaseModel):
    tenants: list[Tenant]


@dataclass(frozen=True, slots=True)
class Known:
    """The number is this tenant's."""

    tenant: Tenant


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody has the number; `ambiguous`: several tenants do, and no one can be picked."""

    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """The register did not answer, or not as it should."""

    reason: str


def number_variants(address: str, original: str | None) -> list[str]:
    """Return the forms a register may have a number in: as received, E.164, national, digits alone."""
    national = phonenumbers.national_significant_number(phonenumbers.parse(address))
    forms = [original or address, address, national, _NOT_DIGIT.sub("", address)]
    return list(dict.fromkeys(forms))


def read_tenants(content: bytes) -> Sequence[Tenant] | Failed:
    """Return the tenants in the body of an answer."""
    try:
        return _Tenants.model_validate_json(content).tenants
    except ValidationError as error:
        return Failed(f"an answer of another form: {error.errors()[0]['type']}")


class MonitorClient:
    """Asks the register, one request at a time for each number, and writes preferences into it."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url.rstrip("/")
        self._client = httpx2.AsyncClient(timeout=timeout, headers={"Accept": "application/json"})

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def find(self, address: str, original: str | None) -> Known | Unknown | Failed:
        """Return whose an E.164 number is, trying each form of it until one is known."""
        forms = number_variants(address, original)
        for form in forms:
            found = await self._ask(form)
            if isinstance(found, Failed):
                return found
            # A national number may be somebody else's abroad: what the register lists must be this one.
            ours = {_NOT_DIGIT.sub("", each) for each in forms}
            people = {
                tenant.tenant_id: tenant
                for tenant in found
                if not tenant.phone_numbers
                or ours & {_NOT_DIGIT.sub("", number) for number in tenant.phone_numbers}
            }
            if len(people) > 1:
                return Unknown(ambiguous=True)
            if people:
                return Known(people.popitem()[1])
        return Unknown()

    async def set_language(self, tenant_id: str, language: str) -> Failed | None:
        """Write a preference; a tenant who is gone is no failure: there is nothing left to write to."""
        path = f"/tenants/{quote(tenant_id, safe='')}"
        answer = await self._request("PATCH", path, json={"language_preference": language})
        if isinstance(answer, Failed):
            return answer
        return None if answer.is_success or answer.status_code == _NOT_FOUND else _refused(answer)

    async def _ask(self, form: str) -> Sequence[Tenant] | Failed:
        answer = await self._request("GET", "/tenants", params={"phone": form})
        if isinstance(answer, Failed):
            return answer
        if answer.status_code == _NOT_FOUND:
            return []
        if not answer.is_success:
            return _refused(answer)
        return read_tenants(answer.content)

    async def _request(self, method: str, path: str, **options: Any) -> httpx2.Response | Failed:
        try:
            return await self._client.request(method, f"{self._url}{path}", **options)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            return Failed(type(error).__name__)


def _refused(answer: httpx2.Response) -> Failed:
    return Failed(f"status {answer.status_code}")
