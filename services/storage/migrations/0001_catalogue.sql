-- The catalogue of one cluster, shared by its nodes. docs/sessions.md argues the rules that these tables serve.

create table nodes (
    id text primary key,
    public_endpoint text not null,
    internal_endpoint text not null,
    free_bytes bigint not null,
    -- By the database's clock, as every time in this schema.
    last_seen timestamptz not null
);

create table buckets (
    id uuid primary key,
    tenant_id uuid not null,
    user_id uuid not null,
    copies smallint not null check (copies between 1 and 16),
    ack_copies smallint not null check (ack_copies between 1 and copies),
    quota_bytes bigint not null check (quota_bytes >= 0), -- 0: no limit
    -- The one order of everything in the bucket. A column of the locked row and not a SEQUENCE, whose numbers are
    -- not drawn in the order of commits.
    seq bigint not null default 0,
    objects bigint not null default 0,
    bytes bigint not null default 0,
    created timestamptz not null default now()
);
create index buckets_by_tenant on buckets (tenant_id, user_id);

-- Each home holds all of the bucket, but for what missing_copies says.
create table homes (
    bucket_id uuid not null references buckets on delete cascade,
    node_id text not null references nodes,
    tenant_id uuid not null,
    user_id uuid not null,
    primary key (bucket_id, node_id)
);
create index homes_by_node on homes (node_id);

create table objects (
    id bigint generated always as identity primary key,
    bucket_id uuid not null references buckets,
    tenant_id uuid not null,
    user_id uuid not null,
    kind text not null, -- domain/names.py ObjectKind
    sha256 bytea not null check (length(sha256) = 32), -- the name, but for the two root files
    size bigint not null check (size >= 0),
    state text not null default 'live' check (state in ('live', 'condemned', 'deleting')),
    created_seq bigint not null,
    condemned_seq bigint,
    created timestamptz not null default now(),
    unique (bucket_id, kind, sha256),
    check ((state = 'live') = (condemned_seq is null))
);
create unique index objects_root_files on objects (bucket_id, kind) where kind in ('config', 'oort-vault');
create index objects_not_live on objects (bucket_id, condemned_seq) where state <> 'live';

create table sessions (
    id uuid primary key,
    bucket_id uuid not null references buckets,
    tenant_id uuid not null,
    user_id uuid not null,
    device_id uuid not null,
    purpose text not null, -- domain/sessions.py Purpose
    parent bytea, -- SHA-256 of the pinned snapshot
    opened_seq bigint not null,
    ended_seq bigint, -- null: open
    -- Bucket seq of the last pack that it put or reserved, and of its last index file.
    pack_seq bigint not null default 0,
    index_seq bigint not null default 0,
    opened timestamptz not null default now(),
    last_beat timestamptz not null default now()
);
create index sessions_open on sessions (bucket_id, opened_seq) where ended_seq is null;

-- Sessions that created, reserved or put the object again (rule 6).
create table object_users (
    object_id bigint not null references objects on delete cascade,
    session_id uuid not null references sessions,
    tenant_id uuid not null,
    user_id uuid not null,
    primary key (object_id, session_id)
);
create index object_users_by_session on object_users (session_id);

-- Snapshots that an open session has as its parent (rule 5). A pin holds while its session is open.
create table pins (
    session_id uuid primary key references sessions,
    object_id bigint not null references objects,
    tenant_id uuid not null,
    user_id uuid not null
);
create index pins_by_object on pins (object_id);

-- The exceptions: an object lies on all homes of its bucket but those named here. Also the queue of replication.
create table missing_copies (
    object_id bigint not null references objects on delete cascade,
    node_id text not null references nodes,
    bucket_id uuid not null,
    tenant_id uuid not null,
    user_id uuid not null,
    since timestamptz not null default now(),
    attempts int not null default 0,
    retry_at timestamptz not null default now(),
    primary key (object_id, node_id)
);
create index missing_copies_queue on missing_copies (node_id, retry_at);
create index missing_copies_by_bucket on missing_copies (bucket_id);

do $$
declare
    owned text;
begin
    foreach owned in array array['buckets', 'homes', 'objects', 'sessions', 'object_users', 'pins', 'missing_copies'] loop
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
