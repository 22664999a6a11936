-- False from a node's start until it has compared its disks with the catalogue: until then nobody says that all copies
-- are complete.
alter table nodes add column reconciled boolean not null default false;
