-- Orders and their append-only history.
--
-- The rules of the order state machine live here as well as in the code, so that they hold against
-- hand-written SQL: (new) -> rejected | submitted; submitted -> filled | failed | unknown;
-- unknown -> filled | failed. A terminal order never changes, and no order is ever deleted.

create table orders (
    user_id           uuid        not null,
    order_id          uuid        not null,
    portfolio_id      uuid        not null,
    idempotency_key   text        not null check (char_length(idempotency_key) between 1 and 255),
    request_sha256    bytea       not null check (octet_length(request_sha256) = 32),
    client_order_id   text        check (char_length(client_order_id) between 1 and 64),
    symbol            text        not null check (char_length(symbol) between 1 and 20),
    side              text        not null check (side = 'buy'),
    -- What clients give fits numeric(28,9) exactly: 19 digits before the point, 9 after it.
    quantity          numeric     not null check (quantity > 0 and quantity < 1e19 and scale(trim_scale(quantity)) <= 9),
    limit_price       numeric     not null check (limit_price > 0 and limit_price < 1e19 and scale(trim_scale(limit_price)) <= 9),
    status            text        not null check (status in ('rejected', 'submitted', 'filled', 'failed', 'unknown')),
    reason            text        check (reason ~ '^[a-z][a-z0-9_]{0,39}$'),
    quote_price       numeric     check (quote_price > 0 and quote_price < 'Infinity'),
    quote_as_of       timestamptz,
    quote_snapshot_id uuid,
    fill_price        numeric     check (fill_price > 0 and fill_price < 'Infinity'),
    fill_quantity     numeric     check (fill_quantity > 0 and fill_quantity < 'Infinity'),
    fill_total        numeric,
    attempts          json        not null default '[]',
    -- The first answer that the client got, kept so that a repeat gets the same bytes.
    answer_status     smallint    check (answer_status between 100 and 599),
    answer_body       text,
    created_at        timestamptz not null,
    updated_at        timestamptz not null,
    primary key (user_id, order_id),
    unique (user_id, idempotency_key),
    unique (user_id, client_order_id),
    foreign key (user_id, portfolio_id) references portfolios (user_id, portfolio_id),
    -- An order that failed by a resolution has no reason of its own.
    constraint orders_reason_fits_status check (
        case when status in ('submitted', 'filled') then reason is null
             when status in ('rejected', 'unknown') then reason is not null
             else true end),
    constraint orders_fill_fits_status check (
        (status = 'filled') = (fill_price is not null)
        and (fill_price is null) = (fill_quantity is null)
        and (fill_price is null) = (fill_total is null)),
    constraint orders_total_is_exact check (fill_total = fill_price * fill_quantity),
    constraint orders_quote_is_whole check (
        (quote_price is null) = (quote_as_of is null)
        and (quote_price is null) = (quote_snapshot_id is null)),
    constraint orders_sent_with_a_quote check (status = 'rejected' or quote_price is not null),
    constraint orders_answer_fits_status check (
        (status = 'submitted') = (answer_status is null)
        and (answer_status is null) = (answer_body is null))
);
-- Newest first over all users, and one order by its id alone (administrators and services).
create index orders_by_id on orders (order_id);
-- What is not settled: the gauges read it every few seconds, and it stays small.
create index orders_open on orders (status, created_at) where status in ('submitted', 'unknown');

create function order_begins_legally() returns trigger language plpgsql as $$
begin
    if new.status not in ('rejected', 'submitted') then
        raise exception 'an order begins as rejected or submitted, not as %', new.status
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;

create function order_changes_legally() returns trigger language plpgsql as $$
begin
    if old.status in ('rejected', 'filled', 'failed') then
        raise exception 'order % is % and never changes', old.order_id, old.status
            using errcode = 'integrity_constraint_violation';
    end if;
    if not (   (old.status = 'submitted' and new.status in ('filled', 'failed', 'unknown'))
            or (old.status = 'unknown' and new.status in ('filled', 'failed'))) then
        raise exception 'order % cannot go from % to %', old.order_id, old.status, new.status
            using errcode = 'integrity_constraint_violation';
    end if;
    if (new.user_id, new.order_id, new.portfolio_id, new.idempotency_key, new.request_sha256,
        new.client_order_id, new.symbol, new.side, new.quantity, new.limit_price,
        new.quote_price, new.quote_as_of, new.quote_snapshot_id, new.created_at)
       is distinct from
       (old.user_id, old.order_id, old.portfolio_id, old.idempotency_key, old.request_sha256,
        old.client_order_id, old.symbol, old.side, old.quantity, old.limit_price,
        old.quote_price, old.quote_as_of, old.quote_snapshot_id, old.created_at) then
        raise exception 'what order % asked for never changes', old.order_id
            using errcode = 'integrity_constraint_violation';
    end if;
    if old.answer_status is not null
       and (new.answer_status, new.answer_body) is distinct from (old.answer_status, old.answer_body) then
        raise exception 'the answer to order % was given and never changes', old.order_id
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;

create trigger orders_begin before insert on orders
    for each row execute function order_begins_legally();
create trigger orders_change before update on orders
    for each row execute function order_changes_legally();
create trigger orders_kept before delete on orders
    for each row execute function refuse_change();
create trigger orders_not_truncated before truncate on orders
    for each statement execute function refuse_change();

-- One line for each state that an order entered. Readers follow it by (txid, seq), and only up to
-- pg_snapshot_xmin(pg_current_snapshot()), so that a transaction which commits late is never skipped.
create table order_events (
    user_id       uuid        not null,
    order_id      uuid        not null,
    -- The state before; null for the first event of an order.
    from_status   text        check (from_status in ('submitted', 'unknown')),
    status        text        not null check (status in ('rejected', 'submitted', 'filled', 'failed', 'unknown')),
    reason        text        check (reason ~ '^[a-z][a-z0-9_]{0,39}$'),
    fill_price    numeric     check (fill_price > 0 and fill_price < 'Infinity'),
    fill_quantity numeric     check (fill_quantity > 0 and fill_quantity < 'Infinity'),
    fill_total    numeric,
    at            timestamptz not null,
    txid          xid8        not null default pg_current_xact_id(),
    -- The place within its transaction: no sequence, which a distributed table would have to share.
    seq           integer     not null default 1 check (seq >= 1),
    -- An order enters a state once, so this is also what makes a repeated settlement harmless.
    primary key (user_id, order_id, status),
    unique (txid, seq, user_id),
    foreign key (user_id, order_id) references orders (user_id, order_id),
    -- A CHECK that comes out as null passes, so both ask for null first.
    constraint order_events_legal_step check (
        case when from_status is null then status in ('rejected', 'submitted')
             when from_status = 'submitted' then status in ('filled', 'failed', 'unknown')
             else status in ('filled', 'failed') end),
    constraint order_events_reason_fits_status check (
        case when status in ('submitted', 'filled') then reason is null
             else reason is not null or from_status is not distinct from 'unknown' end),
    constraint order_events_fill_fits_status check (
        (status = 'filled') = (fill_price is not null)
        and (fill_price is null) = (fill_quantity is null)
        and (fill_price is null) = (fill_total is null)),
    constraint order_events_total_is_exact check (fill_total = fill_price * fill_quantity)
);
-- A report period is read by time, and what committed late by the unique (txid, seq, user_id).
create index order_events_by_at on order_events (at);

-- The transaction that wrote an event is a fact, not something a writer may claim.
create function event_names_its_transaction() returns trigger language plpgsql as $$
begin
    new.txid := pg_current_xact_id();
    return new;
end $$;

create trigger order_events_txid before insert on order_events
    for each row execute function event_names_its_transaction();
create trigger order_events_append_only before update or delete on order_events
    for each row execute function refuse_change();
create trigger order_events_not_truncated before truncate on order_events
    for each statement execute function refuse_change();
