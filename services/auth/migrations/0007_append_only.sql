-- A device that may only add: what removes, or has others remove, is not for it.
alter table devices add column append_only boolean not null default false;
