-- When secrets end, and when they were last used: what `saltgate keys` needs besides schema.sql (docs/keys-in-postgresql.md). Run it
-- once after that, as the same role:  psql --set ON_ERROR_STOP=1 --single-transaction --file deploy/postgres/schema-2.sql

-- From when on the first of two secrets is refused.
alter table saltgate.key add column secret_1_expires timestamptz,
    add check (secret_1_expires is null or secret_2 is not null);

create or replace view saltgate.gateway_key as
    select api_key, account, member, role, state = 'active' as active, expires, secret_1, secret_2, secret_1_expires
    from saltgate.key;

-- The processes of gateways: from when to when each has kept the uses of secrets, and which keys it has in force. Each has rows of
-- its own, so that none overwrites what another has seen.
create table saltgate.gateway (
    instance text primary key check (instance ~ '^[0-9a-f]{32}$'),
    -- Its host and its first listener, for people.
    name text not null,
    since timestamptz not null default now(),
    seen timestamptz not null default now(),
    -- Whether it was told to end, so that it has kept everything.
    ended boolean not null,
    -- The saltgate.key_version of the keys in force.
    version bigint
);

-- The minute in which a secret was last used. A secret is named by eight digits of a MAC. These rows are no keys: they change no
-- saltgate.key_version.
create table saltgate.key_use (
    instance text not null references saltgate.gateway on delete cascade,
    api_key text not null,
    secret text not null check (secret ~ '^[0-9a-f]{8}$'),
    used timestamptz not null,
    primary key (instance, api_key, secret)
);

-- What a gateway calls every five minutes, after each change of its keys, and when it is told to end:
-- {"instance": …, "name": …, "ended": …, "version": …, "uses": [[api_key, secret, seconds since 1970], …]}
create function saltgate.keep_use(of jsonb) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    own constant text := of->>'instance';
begin
    insert into saltgate.gateway as known (instance, name, ended, version)
    values (own, of->>'name', (of->>'ended')::boolean, (of->>'version')::bigint)
    on conflict (instance) do update set seen = now(), ended = excluded.ended, version = excluded.version;

    -- A use in the future was noted by a clock that is wrong.
    insert into saltgate.key_use as known (instance, api_key, secret, used)
    select own, use->>0, use->>1, least(to_timestamp((use->>2)::bigint), now())
    from jsonb_array_elements(of->'uses') as use
    on conflict (instance, api_key, secret) do update set used = greatest(known.used, excluded.used);

    -- The uses of processes that are gone become its own, so that there are not more rows with each restart.
    with gone as (
        delete from saltgate.key_use where instance in (
            select instance from saltgate.gateway
            where instance <> own and (ended or seen < now() - interval '1 day')
            for update skip locked
        )
        returning api_key, secret, used
    )
    insert into saltgate.key_use as known (instance, api_key, secret, used)
    select own, api_key, secret, max(used) from gone group by api_key, secret
    on conflict (instance, api_key, secret) do update set used = greatest(known.used, excluded.used);

    delete from saltgate.gateway where seen < now() - interval '90 days';
    delete from saltgate.key_use where instance = own and used < now() - interval '90 days'
        and not exists (select from saltgate.key where key.api_key = key_use.api_key);
end
$$;

revoke execute on function saltgate.keep_use(jsonb) from public;
grant execute on function saltgate.keep_use(jsonb) to saltgate_read;
grant select on saltgate.gateway, saltgate.key_use to saltgate_admin;
