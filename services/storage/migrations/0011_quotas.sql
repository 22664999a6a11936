-- Quotas that several buckets share: all of a tenant under the name '', and of a group under the group's name.
create table quotas (
    tenant_id uuid not null,
    name text not null check (length(name) <= 63),
    bytes bigint not null check (bytes > 0),
    primary key (tenant_id, name)
);
alter table quotas enable row level security;
alter table quotas force row level security;
create policy tenant_rows on quotas
    using (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid))
    with check (tenant_id = (select nullif(current_setting('oort.tenant', true), '')::uuid));

-- The group whose quota the bucket is under besides; one that has no row in `quotas` has no limit.
alter table buckets add column quota_group text check (length(quota_group) between 1 and 63);
create index buckets_by_group on buckets (tenant_id, quota_group) where quota_group is not null;

-- Of all users of the tenant, whoever asks: a put sees its own user's buckets only. The scope is the transaction's, and
-- back when the function ends; SET in its head would need the rights of a superuser.
create function quota_used(tenant uuid, quota text) returns bigint language plpgsql as $$
declare
    asking text := coalesce(current_setting('oort.user', true), '');
    used bigint;
begin
    perform set_config('oort.user', '', true);
    select coalesce(sum(bytes), 0) into used from buckets
    where tenant_id = tenant and (quota = '' or quota_group = quota);
    perform set_config('oort.user', asking, true);
    return used;
end
$$;
