-- What protects a bucket from those who may remove: object lock, the brake on mass removal, the way back from the basket.

-- Days from its entry, by the database's clock, for which no object is condemned or reaped; 0: no lock.
alter table buckets add column lock_days int not null default 0 check (lock_days between 0 and 36500);
-- Since when the brake holds the bucket: nothing is condemned until an operator releases it.
alter table buckets add column braked timestamptz;
-- When an operator last did so: for a day nothing is weighed, so that what was held can be done.
alter table buckets add column released timestamptz;
-- Of what is gone for good, when the last of it was condemned: only what was condemned later is sure to come back whole.
alter table buckets add column reaped timestamptz;
-- Snapshots, and bytes of packs, that are live: kept beside them, since the brake asks at every removal. 0009 counts them.
alter table buckets add column live_snapshots bigint not null default 0;
alter table buckets add column live_bytes bigint not null default 0;

-- When the session last removed something, and what the bucket had when it began to: what the brake compares with.
alter table sessions add column last_removal timestamptz;
alter table sessions add column had_snapshots bigint not null default 0;
alter table sessions add column had_bytes bigint not null default 0;
create index sessions_removing on sessions (bucket_id, last_removal) where last_removal is not null;
