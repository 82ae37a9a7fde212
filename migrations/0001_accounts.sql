-- Who trades and what they hold. Forward only: a file that has been released is never edited.
--
-- Every table that grows with the number of users carries user_id, and its primary, unique and foreign
-- keys include it, so that a distributed PostgreSQL can keep one user's rows together.
--
-- Amounts are plain numeric with CHECKs rather than numeric(28,9): a typmod rounds what does not fit
-- without a word, a CHECK refuses it. NaN sorts above every number in PostgreSQL, so each upper bound
-- also keeps NaN and Infinity out.

create table users (
    user_id    uuid        primary key,
    name       text        not null check (char_length(name) between 1 and 200),
    created_at timestamptz not null
);

-- The portfolio whose id is its user's id is the user's default one. It is created with the user, so
-- that no order has to look for it or race to make it.
create table portfolios (
    user_id      uuid        not null references users (user_id),
    portfolio_id uuid        not null,
    name         text        not null check (char_length(name) between 1 and 200),
    version      bigint      not null default 1 check (version >= 1),
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    primary key (user_id, portfolio_id)
);
-- Reads by id alone (an administrator, a service) find the owner through this.
create index portfolios_by_id on portfolios (portfolio_id);

-- One position. quantity and cost are the exact fold of the portfolio's filled orders.
create table holdings (
    user_id      uuid        not null,
    portfolio_id uuid        not null,
    symbol       text        not null check (char_length(symbol) between 1 and 20),
    quantity     numeric     not null check (quantity > 0 and quantity < 'Infinity'),
    cost         numeric     not null check (cost >= 0 and cost < 'Infinity'),
    version      bigint      not null default 1 check (version >= 1),
    updated_at   timestamptz not null,
    primary key (user_id, portfolio_id, symbol),
    foreign key (user_id, portfolio_id) references portfolios (user_id, portfolio_id)
);

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% on % is refused: its rows are kept for good', tg_op, tg_table_name
        using errcode = 'integrity_constraint_violation';
end $$;

create function portfolio_only_moves_forward() returns trigger language plpgsql as $$
begin
    if (new.user_id, new.portfolio_id, new.created_at)
       is distinct from (old.user_id, old.portfolio_id, old.created_at) then
        raise exception 'a portfolio keeps its id, owner and creation time'
            using errcode = 'integrity_constraint_violation';
    end if;
    if new.version < old.version then
        raise exception 'the version of a portfolio only grows (% to %)', old.version, new.version
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;

create trigger portfolios_forward before update on portfolios
    for each row execute function portfolio_only_moves_forward();

-- Purchases only: a position grows, and every growth is a new version.
create function holding_only_grows() returns trigger language plpgsql as $$
begin
    if (new.user_id, new.portfolio_id, new.symbol)
       is distinct from (old.user_id, old.portfolio_id, old.symbol) then
        raise exception 'a holding keeps its owner, portfolio and symbol'
            using errcode = 'integrity_constraint_violation';
    end if;
    if new.quantity < old.quantity or new.cost < old.cost or new.version <= old.version then
        raise exception 'the quantity, cost and version of a holding only grow'
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;

create trigger holdings_grow before update on holdings
    for each row execute function holding_only_grows();
create trigger holdings_kept before delete on holdings
    for each row execute function refuse_change();
create trigger holdings_not_truncated before truncate on holdings
    for each statement execute function refuse_change();

-- Only the SHA-256 of a key's secret is kept. An owner that is null is a service, not a user.
create table api_keys (
    key_id     uuid        primary key,
    sha256     bytea       not null check (octet_length(sha256) = 32),
    name       text        not null check (char_length(name) between 1 and 200),
    user_id    uuid        references users (user_id),
    scopes     text[]      not null check (
        cardinality(scopes) > 0 and scopes <@ array['read', 'trade', 'report', 'admin']),
    created_at timestamptz not null,
    expires_at timestamptz,
    revoked_at timestamptz
);
create index api_keys_by_user on api_keys (user_id);
