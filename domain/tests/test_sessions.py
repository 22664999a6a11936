from itertools import permutations

from domain.sessions import NEEDED_SCOPE, Purpose, Scope, opening_statement


def test_every_part_of_an_opening_changes_what_is_signed() -> None:
    parts = ("session", "bucket", Purpose.BACKUP, "parent")
    changed = [
        ("other", "bucket", Purpose.BACKUP, "parent"),
        ("session", "other", Purpose.BACKUP, "parent"),
        ("session", "bucket", Purpose.READ, "parent"),
        ("session", "bucket", Purpose.BACKUP, ""),
    ]
    statements = {opening_statement(*one) for one in (parts, *changed)}
    assert len(statements) == 1 + len(changed)


def test_parts_cannot_be_shifted_into_one_another() -> None:
    ids = ("a", "ab", "b")
    statements = {opening_statement(s, b, Purpose.READ, p) for s, b, p in permutations(ids)}
    assert len(statements) == len(list(permutations(ids)))


def test_every_purpose_needs_a_scope_and_only_retention_may_delete() -> None:
    # Nobody asks for a restic's, which its lock files open, nor for that of a node that follows another cluster.
    assert set(NEEDED_SCOPE) == set(Purpose) - {Purpose.RESTIC, Purpose.REPLICATE}
    assert [purpose for purpose, scope in NEEDED_SCOPE.items() if scope is Scope.DELETE] == [Purpose.RETENTION]
