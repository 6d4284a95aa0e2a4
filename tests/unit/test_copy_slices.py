"""Parts of a COPY: the same bytes, none too long, and no more parts than needed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.products import ledger


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_parts_are_the_same_bytes(pieces: list[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "COPY_SLICE", 16)
        parts = list(ledger.slices(pieces))
    assert b"".join(parts) == b"".join(pieces)
    assert all(len(part) <= 16 for part in parts)


def test_small_pieces_travel_together() -> None:
    assert len(list(ledger.slices([b"header", *[b"ten rows"] * 1000, b"trailer"]))) == 1
