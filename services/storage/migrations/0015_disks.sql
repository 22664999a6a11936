-- The node's disks and stores at its last heartbeat, in their order: id, kind, place, free_bytes, there. Kept when it falls
-- silent, for a node that does not start because a disk is not mounted is asked for that disk's id.
alter table nodes add column disks jsonb not null default '[]';
