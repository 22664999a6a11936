-- Storage clusters (the installation's), templates (a tenant's), vaults and protected items (a user's).

create table storage_clusters (
    name               text primary key,
    internal_endpoints text[] not null,
    -- What the cluster last said of itself, for when it cannot be asked.
    public_endpoints   text[] not null default '{}',
    described          timestamptz
);

create table templates (
    id          uuid primary key,
    tenant_id   uuid not null references tenants (id),
    name        text not null,
    description text not null,
    cluster     text not null references storage_clusters (name),
    copies      integer not null check (copies >= 1),
    ack_copies  integer not null check (ack_copies between 1 and copies),
    quota_bytes bigint not null check (quota_bytes >= 0),
    unique (tenant_id, name)
);
alter table templates enable row level security;
alter table templates force row level security;
create policy tenant_rows on templates
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));

-- A removed vault keeps its row: the bucket stays, and the row is what leads from the bucket to its user and key.
create table vaults (
    id           uuid primary key,
    tenant_id    uuid not null,
    user_id      uuid not null,
    name         text not null,
    kind         text not null check (kind in ('bucket', 'local')),
    bucket_id    uuid unique,
    cluster      text references storage_clusters (name),
    template     text,
    sealed_place bytea not null,
    sealed_key   bytea not null,
    quota_bytes  bigint not null check (quota_bytes >= 0),
    created      timestamptz not null,
    removed      timestamptz,
    foreign key (user_id, tenant_id) references users (id, tenant_id) on delete cascade,
    check ((kind = 'bucket') = (bucket_id is not null and cluster is not null and template is not null))
);
create unique index vault_names on vaults (user_id, name) where removed is null;
alter table vaults enable row level security;
alter table vaults force row level security;
create policy tenant_rows on vaults
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on vaults as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));

create table items (
    id        uuid primary key,
    tenant_id uuid not null,
    user_id   uuid not null,
    device_id uuid not null,
    engine    text not null,
    sealed    bytea not null,
    version   bigint not null,
    modified  timestamptz not null,
    foreign key (user_id, tenant_id) references users (id, tenant_id) on delete cascade,
    foreign key (device_id, user_id) references devices (id, user_id)
);
create index items_of_user on items (user_id, id);
alter table items enable row level security;
alter table items force row level security;
create policy tenant_rows on items
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on items as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));
