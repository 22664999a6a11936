-- Files that were copied by hand into the bucket's folders are being entered, and not all are in: nothing that they may
-- need is condemned or removed until an adoption has come to its end (docs/decisions/adoption.md).
alter table buckets add column adopting boolean not null default false;
