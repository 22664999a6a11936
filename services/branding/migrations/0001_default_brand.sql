-- The brand of the installation: one row, which every tenant without a brand of its own is shown in.
create table default_brand (
    only_row boolean primary key default true check (only_row),
    product_name text not null,
    company_name text not null,
    help_url text not null,
    top_colour text not null check (top_colour ~ '^#[0-9a-f]{6}$'),
    accent_colour text not null check (accent_colour ~ '^#[0-9a-f]{6}$'),
    default_server text not null
);
insert into default_brand (product_name, company_name, help_url, top_colour, accent_colour, default_server)
values ('Oort', 'Oort', '', '#12233d', '#2f7fd1', '');
