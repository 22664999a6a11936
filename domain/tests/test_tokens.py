from typing import Any
from uuid import UUID

import pytest

from domain.sessions import Scope
from domain.tokens import BadClaims, VaultClaims


def some_claims() -> VaultClaims:
    return VaultClaims(
        tenant=UUID(int=1),
        user=UUID(int=2),
        device=UUID(int=3),
        bucket=UUID(int=4),
        cluster="local",
        scopes=frozenset({Scope.READ, Scope.APPEND}),
        quota_bytes=1 << 40,
        device_key=bytes(range(32)),
    )


def test_claims_survive_being_written_and_read() -> None:
    assert VaultClaims.from_payload(some_claims().to_payload()) == some_claims()


@pytest.mark.parametrize("claim", sorted(some_claims().to_payload()))
def test_a_missing_claim_is_refused(claim: str) -> None:
    payload = some_claims().to_payload()
    del payload[claim]
    with pytest.raises(BadClaims):
        VaultClaims.from_payload(payload)


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("tenant", "x"),
        ("user", 7),
        ("scopes", ["everything"]),
        ("scopes", 3),
        ("quota", None),
        ("quota", float("inf")),
        ("quota", -1),
        ("quota", 1 << 63),
        ("cluster", 5),
        ("device_key", "zz"),
        ("device_key", "ab"),
    ],
)
def test_a_claim_of_the_wrong_form_is_refused(claim: str, value: Any) -> None:
    with pytest.raises(BadClaims):
        VaultClaims.from_payload(some_claims().to_payload() | {claim: value})
