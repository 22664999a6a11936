-- Buckets that follow those of another cluster: docs/decisions/regions.md.

-- In the order in which transactions of nodes that run take them.
lock table buckets, objects in access exclusive mode;

-- The cluster that has the bucket to write to; null: this one. Then nothing writes to it here but replication.
alter table buckets add column follows text;
-- When the object was last brought back from among the condemned: followers have removed it, and need it again.
alter table objects add column revived_seq bigint;
create index objects_by_change on objects (bucket_id, kind, (coalesce(revived_seq, created_seq)));

-- The work of following: one row for each bucket that is filled from another cluster.
create table follows (
    bucket_id uuid primary key references buckets on delete cascade,
    tenant_id uuid not null,
    user_id uuid not null,
    source text not null,
    endpoints text[] not null, -- host:port of the internal listeners of nodes there, as the operator said
    source_endpoints text[] not null default '{}', -- and as it says itself
    removals boolean not null, -- what is removed there is removed here
    -- All that was to be seen there at this seq is here.
    upto_seq bigint not null default 0,
    complete boolean not null default false, -- all was here once, of the catalogue that is meant
    -- The last session that was opened to read there, noted before anything was brought in it: a catalogue there that
    -- does not know it is another one, made anew or put back from a dump, and its seq says nothing of this one.
    session_id uuid,
    seen_seq bigint not null default 0, -- up to which nothing more has come since
    strayed boolean not null default false, -- it was another one: nothing is removed until an operator says so
    inventory_due timestamptz not null default now(), -- when all is compared again
    shortfalls int not null default 0, -- inventories that could not bring all, in a row
    -- Who is at work on it, until when, and when it is to be looked at next.
    node_id text not null default '',
    lease uuid,
    due timestamptz not null default now(),
    attempts int not null default 0,
    -- What the last looks came to.
    seen timestamptz, -- the source has answered
    source_lock_days int not null default 0, -- object lock and brake of the bucket there, which its promotion takes over
    source_braked boolean not null default false,
    behind_objects bigint not null default 0,
    behind_bytes bigint not null default 0,
    behind_since timestamptz, -- of what is still to come, when the oldest was stored there
    kept_objects bigint not null default 0, -- removed there, and held here by object lock or the brake
    damaged_objects bigint not null default 0, -- which no node there has whole
    standing text not null default '', -- what the last inventory has left, for a person
    problem text not null default '' -- why the last look has failed
);
create index follows_due on follows (due);

-- What other clusters have said of their following: whom to ask for what is lost here.
create table followers (
    bucket_id uuid not null references buckets on delete cascade,
    cluster text not null,
    tenant_id uuid not null,
    user_id uuid not null,
    endpoints text[] not null,
    upto_seq bigint not null,
    session_id uuid, -- the last in which it has read
    seen timestamptz not null default now(),
    primary key (bucket_id, cluster)
);

do $$
declare
    owned text;
begin
    foreach owned in array array['follows', 'followers'] loop
        execute format('alter table %I enable row level security', owned);
        execute format('alter table %I force row level security', owned);
        execute format($policy$
            create policy tenant_rows on %I
            using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
            with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
        $policy$, owned);
        execute format($policy$
            create policy user_rows on %I as restrictive
            using ((select nullif(current_setting('oort.user', true), '')) is null
                or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
            with check ((select nullif(current_setting('oort.user', true), '')) is null
                or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
        $policy$, owned);
    end loop;
end
$$;
