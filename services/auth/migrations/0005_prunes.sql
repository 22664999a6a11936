-- Whether a retention also frees what no snapshot needs: only such a one, over the whole vault, is a pass.
-- What is known of older jobs does not say it, so they count for none: the next backup is followed by a pass.

alter table jobs add column prune boolean not null default false;
drop index retention_jobs;
create index retention_jobs on jobs (vault_id, ended) where kind = 4003 and item_id is null and prune;
