-- Retention policies: a vault's default (no item) and those of single items in it. In the clear, for servers may see
-- retention. The policy of an item goes with the item: what it left in a vault falls back to the vault's default.

alter table vaults add unique (id, user_id);
alter table items add unique (id, user_id);

create table retention_policies (
    vault_id  uuid not null,
    item_id   uuid,
    tenant_id uuid not null,
    user_id   uuid not null,
    policy    jsonb not null,
    foreign key (user_id, tenant_id) references users (id, tenant_id) on delete cascade,
    foreign key (vault_id, user_id) references vaults (id, user_id) on delete cascade,
    foreign key (item_id, user_id) references items (id, user_id) on delete cascade,
    unique nulls not distinct (vault_id, item_id)
);
create index retention_policies_of_item on retention_policies (item_id);
alter table retention_policies enable row level security;
alter table retention_policies force row level security;
create policy tenant_rows on retention_policies
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));
create policy user_rows on retention_policies as restrictive
    using ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid))
    with check ((select nullif(current_setting('oort.user', true), '')) is null
           or user_id = (select nullif(current_setting('oort.user', true), '')::uuid));

-- The last pass over a vault is the last job of that kind (domain/jobs.py) that was of no single item.
create index retention_jobs on jobs (vault_id, ended) where kind = 4003 and item_id is null;
