-- With what a restic opens a vault. The password is not here: it is made from the id and the pepper.
create table rest_access (
    id          uuid primary key,
    tenant_id   uuid not null,
    user_id     uuid not null,
    vault_id    uuid not null,
    device_id   uuid not null,
    append_only boolean not null,
    created     timestamptz not null,
    revoked     timestamptz,
    foreign key (vault_id, user_id) references vaults (id, user_id) on delete cascade,
    foreign key (device_id, user_id) references devices (id, user_id) on delete cascade
);
-- The same is asked for, the same is answered.
create unique index rest_access_in_force on rest_access (vault_id, device_id, append_only) where revoked is null;
alter table rest_access enable row level security;
alter table rest_access force row level security;
create policy tenant_rows on rest_access
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on rest_access as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));
