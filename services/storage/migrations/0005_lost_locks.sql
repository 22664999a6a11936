-- Who removed a lock, and restics that go on after their lock was lost: docs/sessions.md, "restic".

-- When a restic of the lock's own URL removed it; null of one that was lost: its session ended over it, or another
-- device removed it. Decides how long the row is kept, and never what may be removed.
alter table restic_locks add column removed timestamptz;
create index restic_locks_removed on restic_locks (removed) where removed is not null;

-- Opened although a lock of the same URL was lost: whoever wrote the first lock may know an older state of the vault,
-- until it lists snapshots or index files anew.
alter table sessions add column doubtful boolean not null default false;
