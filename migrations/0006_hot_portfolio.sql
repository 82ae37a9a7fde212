-- A portfolio on which everybody buys at once must not slow down.
--
-- The foreign key of an order locked its portfolio's row, which every fill updates: each version of the row then carried the
-- list of its lockers (a MultiXact), which PostgreSQL looks up anew for each dead version that it meets. A portfolio and an
-- order are there for good under their keys, and triggers hold that, so it is enough to see them once, without a lock,
-- and for all rows of a statement together.

create trigger portfolios_kept before delete on portfolios
    for each row execute function refuse_change();

create function orders_have_their_portfolio() returns trigger language plpgsql as $$
begin
    if exists (select from added a where not exists (
        select from portfolios p where p.user_id = a.user_id and p.portfolio_id = a.portfolio_id)) then
        raise exception 'an order is of a portfolio that is not there'
            using errcode = 'foreign_key_violation', constraint = 'orders_have_their_portfolio';
    end if;
    return null;
end $$;

create function order_events_have_their_order() returns trigger language plpgsql as $$
begin
    if exists (select from added a where not exists (
        select from orders o where o.user_id = a.user_id and o.order_id = a.order_id)) then
        raise exception 'an event is of an order that is not there'
            using errcode = 'foreign_key_violation', constraint = 'order_events_have_their_order';
    end if;
    return null;
end $$;

alter table orders drop constraint orders_user_id_portfolio_id_fkey;
alter table order_events drop constraint order_events_user_id_order_id_fkey;
create trigger orders_have_their_portfolio after insert on orders
    referencing new table as added for each statement execute function orders_have_their_portfolio();
create trigger order_events_have_their_order after insert on order_events
    referencing new table as added for each statement execute function order_events_have_their_order();

-- Write 1 of a batch as before, in steps: what only some orders need (a version that is expected, a key's limit, an answer that
-- was given before) is asked only when some order needs it. As one statement, all of it was set up for every batch.
create or replace function place_orders(
    user_ids uuid[], order_ids uuid[], portfolio_ids uuid[], idempotency_keys text[], request_sha256s bytea[],
    client_order_ids text[], symbols text[], sides text[], quantities text[], limit_prices text[], notionals text[],
    key_ids uuid[], statuses text[], reasons text[], quote_prices text[], quote_as_ofs timestamptz[],
    quote_snapshot_ids uuid[], answer_statuses smallint[], answer_bodies text[], created_ats timestamptz[],
    -- A portfolio that is expected at a version: what the order is rejected with otherwise.
    expected_versions bigint[], moved_answer_bodies text[],
    -- A key that may place so many orders since the order id that a day begins with, and what it is told beyond.
    daily_maxima bigint[], days_begin uuid[], daily_answer_bodies text[])
returns table (
    place integer, is_new boolean, status text, reason text, is_portfolio_there boolean,
    first_order_id uuid, first_request_sha256 bytea, first_answer_status smallint, first_answer_body text,
    is_same_key boolean)
language plpgsql security definer as $$
#variable_conflict use_column
declare
    -- By position: null, `portfolio_changed` or `daily_limit_reached`.
    verdicts text[];
    new_ids uuid[];
    new_statuses text[];
    new_reasons text[];
begin
    -- The first that applies: refused by the service (without a verdict here), moved, too many.
    if array_remove(expected_versions, null) <> '{}' then
        select array_agg(case when a.status = 'submitted' and p.version <> a.expected_version
                              then 'portfolio_changed' end order by a.place) into verdicts
        from unnest(user_ids, portfolio_ids, statuses, expected_versions)
                with ordinality as a (user_id, portfolio_id, status, expected_version, place)
            left join portfolios p on p.user_id = a.user_id and p.portfolio_id = a.portfolio_id;
    end if;

    if array_remove(daily_maxima, null) <> '{}' then
        with limited as (
            -- What may count against a key's limit: each order once, and none that is there already or has no portfolio.
            select distinct on (a.user_id, a.idempotency_key) a.*
            from unnest(user_ids, portfolio_ids, idempotency_keys, key_ids, statuses, daily_maxima, days_begin, verdicts)
                    with ordinality as a (user_id, portfolio_id, idempotency_key, key_id, status, daily_max, day_begins,
                        verdict, place)
                join portfolios p on p.user_id = a.user_id and p.portfolio_id = a.portfolio_id and p.deleted_at is null
            where a.daily_max is not null and a.status = 'submitted' and a.verdict is null and not exists (
                select from orders o where o.user_id = a.user_id and o.idempotency_key = a.idempotency_key)
            order by a.user_id, a.idempotency_key, a.place
        ), spent as (
            -- Once for each user and key, and no further than the limit.
            select k.user_id, k.key_id, counted.orders
            from (select distinct l.user_id, l.key_id, l.day_begins, l.daily_max from limited l) k
            cross join lateral (
                select count(*) as orders from (
                    select from orders o
                    where o.user_id = k.user_id and o.order_id >= k.day_begins and o.key_id = k.key_id
                      and o.status <> 'rejected'
                    limit k.daily_max + 1
                ) placed
            ) counted
        ), over as (
            select numbered.place from (
                select l.place, l.daily_max,
                    s.orders + row_number() over (partition by l.user_id, l.key_id order by l.place) as number
                from limited l join spent s on s.user_id = l.user_id and s.key_id = l.key_id
            ) numbered where numbered.number > numbered.daily_max
        )
        select array_agg(case when o.place is null then v.verdict else 'daily_limit_reached' end order by v.place)
        into verdicts
        from unnest(order_ids, verdicts) with ordinality as v (order_id, verdict, place)
            left join over o on o.place = v.place;
    end if;

    with written as (
        insert into orders (user_id, order_id, portfolio_id, idempotency_key, request_sha256, client_order_id, symbol,
            side, quantity, limit_price, notional, key_id, status, reason, quote_price, quote_as_of,
            quote_snapshot_id, answer_status, answer_body, created_at, updated_at)
        select a.user_id, a.order_id, a.portfolio_id, a.idempotency_key, a.request_sha256, a.client_order_id, a.symbol,
            a.side, a.quantity::numeric, a.limit_price::numeric, a.notional::numeric, a.key_id,
            case when a.verdict is null then a.status else 'rejected' end, coalesce(a.verdict, a.reason),
            a.quote_price::numeric, a.quote_as_of, a.quote_snapshot_id,
            case a.verdict when 'portfolio_changed' then 412 when 'daily_limit_reached' then 429 else a.answer_status end,
            case a.verdict when 'portfolio_changed' then a.moved_answer_body
                           when 'daily_limit_reached' then a.daily_answer_body else a.answer_body end,
            a.created_at, a.created_at
        from unnest(user_ids, order_ids, portfolio_ids, idempotency_keys, request_sha256s, client_order_ids, symbols,
                sides, quantities, limit_prices, notionals, key_ids, statuses, reasons, quote_prices, quote_as_ofs,
                quote_snapshot_ids, answer_statuses, answer_bodies, created_ats, moved_answer_bodies,
                daily_answer_bodies, verdicts)
            as a (user_id, order_id, portfolio_id, idempotency_key, request_sha256, client_order_id, symbol, side,
                quantity, limit_price, notional, key_id, status, reason, quote_price, quote_as_of, quote_snapshot_id,
                answer_status, answer_body, created_at, moved_answer_body, daily_answer_body, verdict)
            join portfolios p on p.user_id = a.user_id and p.portfolio_id = a.portfolio_id and p.deleted_at is null
        -- Two batches that hold the same keys wait for each other in the same order.
        order by a.user_id, a.idempotency_key
        on conflict do nothing
        returning user_id, order_id, status, reason, created_at
    ), logged as (
        insert into order_events (user_id, order_id, status, reason, at, seq)
        select user_id, order_id, status, reason, created_at, row_number() over ()
        from written
    )
    select array_agg(order_id), array_agg(status), array_agg(reason) into new_ids, new_statuses, new_reasons
    from written;

    if cardinality(new_ids) = cardinality(order_ids) then
        return query
        select a.place::integer, true, n.status, n.reason, true,
            null::uuid, null::bytea, null::smallint, null::text, null::boolean
        from unnest(order_ids) with ordinality as a (order_id, place)
            join unnest(new_ids, new_statuses, new_reasons) as n (order_id, status, reason) on n.order_id = a.order_id
        order by a.place;
        return;
    end if;

    -- A statement of its own: what others committed meanwhile, and stopped a row of ours, is visible to it.
    return query
    select a.place::integer, n.order_id is not null, n.status, n.reason, p.portfolio_id is not null,
        f.order_id, f.request_sha256, f.answer_status, f.answer_body, f.idempotency_key = a.idempotency_key
    from unnest(user_ids, order_ids, portfolio_ids, idempotency_keys, client_order_ids)
            with ordinality as a (user_id, order_id, portfolio_id, idempotency_key, client_order_id, place)
        left join unnest(new_ids, new_statuses, new_reasons) as n (order_id, status, reason) on n.order_id = a.order_id
        left join portfolios p
            on p.user_id = a.user_id and p.portfolio_id = a.portfolio_id and p.deleted_at is null
        left join lateral (
            select same.* from (
                select 1 as rank, k.* from orders k
                where k.user_id = a.user_id and k.idempotency_key = a.idempotency_key
                union all
                select 2, c.* from orders c
                where c.user_id = a.user_id and c.client_order_id = a.client_order_id
            ) same where n.order_id is null order by same.rank limit 1
        ) f on true
    order by a.place;
end $$;

do $$
declare
    own regprocedure;
begin
    foreach own in array array['place_orders'::regproc::regprocedure, 'orders_have_their_portfolio()'::regprocedure,
        'order_events_have_their_order()'::regprocedure]
    loop
        execute format('alter function %s set search_path = %I, pg_temp', own, current_schema());
        execute format('revoke execute on function %s from public', own);
    end loop;
    -- Few rows are added at a time, each is looked up by its key: also in a plan that was made while the table was small.
    foreach own in array array['orders_have_their_portfolio()'::regprocedure,
        'order_events_have_their_order()'::regprocedure]
    loop
        execute format('alter function %s set enable_hashjoin = off', own);
        execute format('alter function %s set enable_mergejoin = off', own);
        execute format('alter function %s set enable_seqscan = off', own);
    end loop;
end $$;
