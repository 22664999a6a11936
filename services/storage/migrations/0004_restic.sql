-- Sessions of restics, which lock files make: docs/sessions.md, "restic".

-- Whose put entered it, and who condemned it: a restic sees the bucket as it was when its session was opened, and what
-- it has done itself. No foreign key: that session may be forgotten, and was over then.
alter table objects add column created_by uuid;
alter table objects add column condemned_by uuid;

-- A snapshot or an index file that a restic wanted to be rid of had to stay: so do index files and packs from then on.
alter table sessions add column kept_something boolean not null default false;

-- Lock files are no objects: they lie here alone, and go with the rows of their sessions. One that was removed, or is of
-- a session that is over, has no body any more; its row says of who comes back to it that he knows of what is over.
create table restic_locks (
    bucket_id uuid not null references buckets on delete cascade,
    sha256 bytea not null check (length(sha256) = 32),
    session_id uuid not null references sessions on delete cascade,
    tenant_id uuid not null,
    user_id uuid not null,
    body bytea,
    written timestamptz not null default now(),
    primary key (bucket_id, sha256)
);
create index restic_locks_by_session on restic_locks (session_id);

alter table restic_locks enable row level security;
alter table restic_locks force row level security;
create policy tenant_rows on restic_locks
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on restic_locks as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
        or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
        or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));

-- host:port at which restics reach the node; empty: it does not serve them.
alter table nodes add column rest_endpoint text not null default '';
