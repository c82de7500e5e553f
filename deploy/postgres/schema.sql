-- The keys of Saltgate's callers in PostgreSQL 12 or later: docs/keys-in-postgresql.md. Run it once, as a role that may create
-- schemas and roles:  psql --set ON_ERROR_STOP=1 --single-transaction --file deploy/postgres/schema.sql

create schema saltgate;

-- saltgate_read: for the gateway. saltgate_admin: for whoever adds and revokes keys. Neither logs in by itself: grant them.
do $$
begin
    if not exists (select from pg_roles where rolname = 'saltgate_read') then
        create role saltgate_read nologin;
    end if;
    if not exists (select from pg_roles where rolname = 'saltgate_admin') then
        create role saltgate_admin nologin;
    end if;
end
$$;

create table saltgate.key (
    api_key text primary key check (api_key ~ '^[0-9A-Za-z]{1,64}$'),
    account text not null check (account ~ '^[!-~]{1,128}$'),
    member text not null check (member ~ '^[!-~]{1,128}$'),
    role text not null check (role in ('MEMBER', 'DEVELOPER', 'OWNER')),
    state text not null default 'active' check (state in ('active', 'inactive', 'revoked')),
    expires timestamptz,
    -- 16 to 256 bytes as they are, sealed (sg1:…), or env:NAME or file:/path of the gateway.
    secret_1 text not null,
    -- While one secret replaces the other.
    secret_2 text
);

-- One number for all keys. Each statement that changes keys takes this row first and holds it until it commits, so that
-- commits come in the order of the numbers, and writers never wait for each other in a circle.
create table saltgate.key_version (
    only_row boolean primary key default true check (only_row),
    version bigint not null
);
insert into saltgate.key_version (version) values (1);

create function saltgate.count_key_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    changed bigint;
begin
    update saltgate.key_version set version = version + 1 returning version into changed;
    -- Sent with the commit; a gateway with listen_url reads the keys at once.
    perform pg_notify('saltgate_key', changed::text);
    return null;
end
$$;

create trigger count_key_change before insert or update or delete or truncate on saltgate.key
    for each statement execute function saltgate.count_key_change();

-- Who changed which key, and which columns; never a secret.
create table saltgate.key_change (
    number bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    changed_by text not null,
    api_key text not null,
    what text not null check (what in ('added', 'changed', 'removed')),
    columns text[] not null default '{}'
);

create function saltgate.note_key_change() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_op = 'INSERT' then
        insert into saltgate.key_change (changed_by, api_key, what) values (session_user, new.api_key, 'added');
    elsif tg_op = 'DELETE' then
        insert into saltgate.key_change (changed_by, api_key, what) values (session_user, old.api_key, 'removed');
    else
        insert into saltgate.key_change (changed_by, api_key, what, columns)
        select session_user, old.api_key, 'changed', coalesce(array_agg(before.key order by before.key), '{}')
        from jsonb_each_text(to_jsonb(old)) as before
        join jsonb_each_text(to_jsonb(new)) as after using (key)
        where before.value is distinct from after.value;
    end if;
    return null;
end
$$;

create trigger note_key_change after insert or update or delete on saltgate.key
    for each row execute function saltgate.note_key_change();

create function saltgate.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception 'saltgate.key_change is only appended to';
end
$$;

create trigger refuse_change before update or delete or truncate on saltgate.key_change
    for each statement execute function saltgate.refuse_change();

-- What the gateway reads: the columns that [directory.postgres] query needs, by name.
create view saltgate.gateway_key as
    select api_key, account, member, role, state = 'active' as active, expires, secret_1, secret_2 from saltgate.key;

grant usage on schema saltgate to saltgate_read, saltgate_admin;
grant select on saltgate.gateway_key, saltgate.key_version to saltgate_read;
grant select, insert, update, delete on saltgate.key to saltgate_admin;
grant select on saltgate.key_version, saltgate.key_change to saltgate_admin;
