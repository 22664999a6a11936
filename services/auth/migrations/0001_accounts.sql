-- Tenants, their users, what proves who they are, and their devices.
--
-- A tenant-level caller (oort.user not set) sees its tenant; a user-level caller its own rows only.
-- Unique keys see through row-level security, so no refusal may repeat what lies in a row that they hit.

create table tenants (
    id       uuid primary key,
    name     text not null unique,
    is_first boolean not null default false,
    created  timestamptz not null
);
create unique index one_first_tenant on tenants (is_first) where is_first;
alter table tenants enable row level security;
alter table tenants force row level security;
create policy tenant_rows on tenants
    using (id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (id = (select nullif(current_setting('oort.tenant', true), '')::uuid));

create table users (
    id        uuid primary key,
    tenant_id uuid not null references tenants (id),
    username  text not null,
    role      text not null check (role in ('user', 'admin')),
    suspended boolean not null default false,
    created   timestamptz not null,
    unique (tenant_id, username),
    unique (id, tenant_id)
);
alter table users enable row level security;
alter table users force row level security;
create policy tenant_rows on users
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on users as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or id = (select nullif(current_setting('oort.user', true), '')::uuid));

-- Neither the password nor L is here: login_hash is SHA-256(login_salt, pepper, L), and the pepper is not in the database.
create table credentials (
    user_id          uuid primary key,
    tenant_id        uuid not null,
    kdf_salt         bytea not null,
    kdf_memory_kib   bigint not null,
    kdf_iterations   bigint not null,
    kdf_lanes        bigint not null,
    login_salt       bytea not null,
    login_hash       bytea not null,
    sealed_key       bytea not null,
    password_changed timestamptz not null,
    recovery_salt    bytea,
    recovery_hash    bytea,
    recovery_seal    bytea,
    foreign key (user_id, tenant_id) references users (id, tenant_id) on delete cascade,
    check (num_nulls(recovery_salt, recovery_hash, recovery_seal) in (0, 3))
);
alter table credentials enable row level security;
alter table credentials force row level security;
create policy tenant_rows on credentials
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on credentials as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));

-- A revoked device keeps its row: its jobs refer to it, and its id never signs in again.
create table devices (
    id             uuid primary key,
    tenant_id      uuid not null,
    user_id        uuid not null,
    name           text not null,
    platform       text not null,
    client_version text not null,
    public_key     bytea not null check (octet_length(public_key) = 32),
    registered     timestamptz not null,
    last_seen      timestamptz not null,
    revoked        timestamptz,
    foreign key (user_id, tenant_id) references users (id, tenant_id) on delete cascade,
    unique (id, user_id)
);
create index devices_of_user on devices (user_id, id);
alter table devices enable row level security;
alter table devices force row level security;
create policy tenant_rows on devices
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on devices as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));

-- Failed proofs of identity, by a keyed hash of account and address: of no tenant, and it names nobody.
create table attempts (
    subject       bytea primary key,
    failures      integer not null,
    last_failure  timestamptz not null,
    blocked_until timestamptz not null
);
create index attempts_by_age on attempts (last_failure);
