-- The records of all gateways in PostgreSQL 12 or later ([audit.ship]): docs/operations.md, "The record". Run it once, as a role
-- that may create schemas and roles:  psql --set ON_ERROR_STOP=1 --single-transaction --file deploy/postgres/record.sql

create schema if not exists saltgate;

-- saltgate_ship: for the gateway, which adds and reads lines and can neither change nor remove one. It does not log in by itself:
-- grant it.
do $$
begin
    if not exists (select from pg_roles where rolname = 'saltgate_ship') then
        create role saltgate_ship nologin;
    end if;
end
$$;

-- One row for each line of a record, with the bytes that the gateway wrote.
create table saltgate.record (
    instance text check (instance ~ '^[0-9a-f]{16}$'),
    file bigint check (file > 0),
    line bigint check (line > 0),
    bytes bytea not null,
    received timestamptz not null default clock_timestamp(),
    primary key (instance, file, line)
);

-- To remove what is old: delete whole files, oldest first, so that the rest of a chain stays whole.
create index record_received on saltgate.record (received);

-- The lines as JSON, for people: select * from saltgate.record_line where line_json ->> 'segment' = '…'
create view saltgate.record_line as
    select instance, file, line, received, convert_from(bytes, 'UTF8')::json as line_json from saltgate.record;

grant usage on schema saltgate to saltgate_ship;
grant select, insert on saltgate.record to saltgate_ship;
