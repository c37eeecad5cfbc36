"""Hot statements: named parameters, numbered once."""

from services.ledger.statements import HotStatement


def test_names_are_numbered_in_order_of_appearance_and_repeats_share_a_number() -> None:
    statement = HotStatement("SELECT %(b)s::int, %(a)s::text, %(b)s::int")
    assert statement._text == b"SELECT $1::int, $2::text, $1::int"
    assert statement._names == ("b", "a")


def test_a_doubled_percent_sign_is_one() -> None:
    assert (
        HotStatement("SELECT 'a' LIKE 'a%%', 7 %% %(n)s::int")._text == b"SELECT 'a' LIKE 'a%', 7 % $1::int"
    )
