"""The register's answers, under fire: a tenant, nobody, or a failure, and never an exception."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.conversation.monitor import Failed, number_variants, read_tenants

NUMBER = "+15559876543"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
TENANT = st.fixed_dictionaries(
    {},
    optional={
        "tenant_id": TEXT | JSON,
        "name": TEXT | JSON,
        "phone_numbers": st.lists(TEXT | st.sampled_from([NUMBER, "5559876543"]), max_size=3) | JSON,
        "language_preference": st.sampled_from(["es", "PT-br", ""]) | JSON,
    },
)
ANSWER = (
    st.fixed_dictionaries({"tenants": st.lists(TENANT | JSON, max_size=3) | JSON}).map(orjson.dumps)
    | JSON.map(orjson.dumps)
    | st.binary(max_size=60)
)


@given(ANSWER)
def test_no_answer_is_unexpected(content: bytes) -> None:
    found = read_tenants(content)
    if isinstance(found, Failed):
        return
    for tenant in found:
        assert tenant.tenant_id
        assert tenant.language in {None, "en", "es", "pt"}


@given(TEXT)
def test_no_form_of_a_number_is_unexpected(original: str) -> None:
    assert NUMBER in number_variants(NUMBER, original)
