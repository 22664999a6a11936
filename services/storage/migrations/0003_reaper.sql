-- Marks, condemnations and the reaper: rules 9 to 11 of docs/sessions.md.

-- The mark of a retention: drawn once, by the call with this mark_id. `ended` only says when the row may be forgotten;
-- `swept`: it is over, and none of its rows in object_users is left.
alter table sessions add column mark_seq bigint;
alter table sessions add column mark_id uuid;
alter table sessions add column ended timestamptz;
alter table sessions add column swept boolean not null default false;
update sessions set ended = now() where ended_seq is not null;
create index sessions_unswept on sessions (bucket_id, ended_seq) where ended_seq is not null and not swept;
create index sessions_swept on sessions (ended) where swept;

-- When it was condemned: what lies in the waste basket stays for a set time after it. Decides how long, never what.
alter table objects add column condemned timestamptz;
update objects set condemned = now() where state = 'condemned';
drop index objects_not_live;
create index objects_condemned on objects (bucket_id, kind, condemned_seq) include (condemned) where state = 'condemned';

-- Copies of objects in state `deleting` that their homes have still to remove: each home reads its own rows.
create table removals (
    object_id bigint not null references objects,
    node_id text not null references nodes,
    bucket_id uuid not null,
    tenant_id uuid not null,
    user_id uuid not null,
    -- Order on each disk: 0 snapshots, 1 index files, 2 packs, 3 keys.
    rank smallint not null check (rank between 0 and 3),
    primary key (object_id, node_id)
);
create index removals_queue on removals (node_id, bucket_id, rank);

alter table removals enable row level security;
alter table removals force row level security;
create policy tenant_rows on removals
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on removals as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
        or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
        or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));
