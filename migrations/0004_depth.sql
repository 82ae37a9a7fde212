-- The write path of orders as two functions, resolutions, deleted portfolios, and the hash chain.
--
-- The service's own role owns nothing. Orders, their events and holdings change through the two functions below and
-- in no other way: whoever speaks SQL as that role can neither book a holding without a fill nor write an event
-- without its order. Who may call what is granted by `api-service migrate`, which knows the role's name.

alter table portfolios add column deleted_at timestamptz;

alter table orders
    -- The amount of money that was asked for, when it was an amount and not a quantity.
    add column notional numeric check (notional > 0 and notional < 1e19 and scale(trim_scale(notional)) <= 9),
    -- The API key that placed it; counts against the key's limits.
    add column key_id uuid,
    add constraint orders_fill_within_order check (fill_quantity <= quantity),
    add constraint orders_attempts_are_a_list check (json_typeof(attempts) = 'array'),
    -- What hashes a time or adds to it must not meet infinity.
    add constraint orders_times_are_times check (
        created_at between '2000-01-01' and '2200-01-01' and updated_at between '2000-01-01' and '2200-01-01'
        and quote_as_of between '2000-01-01' and '2200-01-01');

alter table order_events
    -- Of a resolution: who told the outcome (`key:` and the id of an API key, or `service`), and what they said.
    add column actor text check (char_length(actor) between 1 and 100),
    add column note text check (char_length(note) between 1 and 1000),
    add constraint order_events_time_is_a_time check (at between '2000-01-01' and '2200-01-01'),
    add constraint order_events_resolution_is_told check (
        (from_status is not distinct from 'unknown') = (note is not null) and (note is null) = (actor is null));

create or replace function order_changes_legally() returns trigger language plpgsql as $$
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
        new.client_order_id, new.symbol, new.side, new.quantity, new.limit_price, new.notional, new.key_id,
        new.quote_price, new.quote_as_of, new.quote_snapshot_id, new.created_at)
       is distinct from
       (old.user_id, old.order_id, old.portfolio_id, old.idempotency_key, old.request_sha256,
        old.client_order_id, old.symbol, old.side, old.quantity, old.limit_price, old.notional, old.key_id,
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

-- A portfolio goes only when it holds nothing and nothing is on its way to it. The queries of a trigger see what was
-- committed until now, not only what its statement saw. An order that is placed at this very moment brings the
-- portfolio back when it is filled: see settle_orders.
create function portfolio_goes_empty() returns trigger language plpgsql as $$
begin
    if new.portfolio_id = new.user_id then
        raise exception 'the default portfolio stays'
            using errcode = 'integrity_constraint_violation', constraint = 'portfolios_default_stays';
    end if;
    if exists (select from holdings h where h.user_id = new.user_id and h.portfolio_id = new.portfolio_id)
       or exists (select from orders o where o.status in ('submitted', 'unknown')
                  and o.user_id = new.user_id and o.portfolio_id = new.portfolio_id) then
        raise exception 'portfolio % holds something or has orders that are not settled', new.portfolio_id
            using errcode = 'integrity_constraint_violation', constraint = 'portfolios_goes_empty';
    end if;
    return new;
end $$;

create trigger portfolios_go_empty before update of deleted_at on portfolios
    for each row when (old.deleted_at is null and new.deleted_at is not null)
    execute function portfolio_goes_empty();
create trigger portfolios_not_truncated before truncate on portfolios
    for each statement execute function refuse_change();

-- Write 1 of a batch: what is new is written, each order with its first event; what is not new is found. One answer
-- for each position, in one transaction. Nothing conflicts with an error: a key, a client's own id or an order id that is
-- there already is reported, not raised.
create function place_orders(
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
    new_ids uuid[];
begin
    with asked as (
        select a.*
        from unnest(user_ids, order_ids, portfolio_ids, idempotency_keys, request_sha256s, client_order_ids, symbols,
                sides, quantities, limit_prices, notionals, key_ids, statuses, reasons, quote_prices, quote_as_ofs,
                quote_snapshot_ids, answer_statuses, answer_bodies, created_ats, expected_versions,
                moved_answer_bodies, daily_maxima, days_begin, daily_answer_bodies)
            with ordinality as a (user_id, order_id, portfolio_id, idempotency_key, request_sha256, client_order_id,
                symbol, side, quantity, limit_price, notional, key_id, status, reason, quote_price, quote_as_of,
                quote_snapshot_id, answer_status, answer_body, created_at, expected_version, moved_answer_body,
                daily_max, day_begins, daily_answer_body, place)
    ), placeable as (
        select a.*, coalesce(a.status = 'submitted' and p.version <> a.expected_version, false) as has_moved
        from asked a join portfolios p
            on p.user_id = a.user_id and p.portfolio_id = a.portfolio_id and p.deleted_at is null
    ), limited as (
        -- What may count against a key's limit: each order once, and none that is there already.
        select distinct on (p.user_id, p.idempotency_key) p.*
        from placeable p
        where p.daily_max is not null and p.status = 'submitted' and not p.has_moved and not exists (
            select from orders o where o.user_id = p.user_id and o.idempotency_key = p.idempotency_key)
        order by p.user_id, p.idempotency_key, p.place
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
    ), judged as (
        -- The first that applies: refused by the service, moved, too many.
        select p.*, case when p.has_moved then 'portfolio_changed'
                         when p.place in (select o.place from over o) then 'daily_limit_reached' end as verdict
        from placeable p
    ), written as (
        insert into orders (user_id, order_id, portfolio_id, idempotency_key, request_sha256, client_order_id, symbol,
            side, quantity, limit_price, notional, key_id, status, reason, quote_price, quote_as_of,
            quote_snapshot_id, answer_status, answer_body, created_at, updated_at)
        select j.user_id, j.order_id, j.portfolio_id, j.idempotency_key, j.request_sha256, j.client_order_id, j.symbol,
            j.side, j.quantity::numeric, j.limit_price::numeric, j.notional::numeric, j.key_id,
            case when j.verdict is null then j.status else 'rejected' end, coalesce(j.verdict, j.reason),
            j.quote_price::numeric, j.quote_as_of, j.quote_snapshot_id,
            case j.verdict when 'portfolio_changed' then 412 when 'daily_limit_reached' then 429 else j.answer_status end,
            case j.verdict when 'portfolio_changed' then j.moved_answer_body
                           when 'daily_limit_reached' then j.daily_answer_body else j.answer_body end,
            j.created_at, j.created_at
        from judged j
        -- Two batches that hold the same keys wait for each other in the same order.
        order by j.user_id, j.idempotency_key
        on conflict do nothing
        returning user_id, order_id, status, reason, created_at
    ), logged as (
        insert into order_events (user_id, order_id, status, reason, at, seq)
        select user_id, order_id, status, reason, created_at, row_number() over ()
        from written
    )
    select array_agg(order_id) into new_ids from written;

    -- A statement of its own: what others committed meanwhile, and stopped a row of ours, is visible to it.
    return query
    select a.place::integer, n.order_id is not null, o.status, o.reason, p.portfolio_id is not null,
        f.order_id, f.request_sha256, f.answer_status, f.answer_body, f.idempotency_key = a.idempotency_key
    from unnest(user_ids, order_ids, portfolio_ids, idempotency_keys, client_order_ids)
            with ordinality as a (user_id, order_id, portfolio_id, idempotency_key, client_order_id, place)
        left join unnest(new_ids) as n (order_id) on n.order_id = a.order_id
        left join orders o on o.user_id = a.user_id and o.order_id = n.order_id
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

-- Write 2 of a batch, and resolutions: each order that may still change becomes what it is told to be, its holding is
-- booked, its portfolio's version moves by one for each fill, and its event is written. What was settled before stays.
-- One answer for each position, in one transaction.
--
-- Locks are taken in one order everywhere: orders by (user, id), then portfolios by (user, id), and holdings only under
-- their portfolio's lock. No portfolio is touched before all orders of the batch are locked.
create function settle_orders(
    user_ids uuid[], order_ids uuid[], statuses text[], reasons text[], fill_prices text[], fill_quantities text[],
    attempts_made text[], answer_statuses smallint[], answer_bodies text[], ats timestamptz[],
    -- A resolution changes an unknown order and no other; an outcome of the vendor also one that is submitted.
    are_resolutions boolean[],
    -- Who told, and what, for the case that the order was unknown.
    actors text[], notes text[])
returns table (place integer, is_now boolean, was_unknown boolean)
language plpgsql security definer as $$
#variable_conflict use_column
begin
    return query
    with asked as (
        -- Twice the same order in one batch: the first counts, but what is known counts before what is not.
        select distinct on (a.user_id, a.order_id) a.*
        from unnest(user_ids, order_ids, statuses, reasons, fill_prices, fill_quantities, attempts_made,
                answer_statuses, answer_bodies, ats, are_resolutions, actors, notes)
            with ordinality as a (user_id, order_id, status, reason, fill_price, fill_quantity, attempts,
                answer_status, answer_body, at, is_resolution, actor, note, place)
        order by a.user_id, a.order_id, a.status = 'unknown', a.place
    ), locked as (
        select a.*, a.fill_price::numeric as price, a.fill_quantity::numeric as quantity, o.status as status_before
        from asked a join orders o on o.user_id = a.user_id and o.order_id = a.order_id
        order by a.user_id, a.order_id
        for no key update of o
    ), able as (
        -- A step of its own: with the state among its conditions the step before might look its orders up in the small
        -- index of open ones, where every order leaves a dead entry behind until the next vacuum.
        select * from locked l
        where (l.status_before = 'submitted' and not l.is_resolution)
           or (l.status_before = 'unknown' and l.status in ('filled', 'failed'))
    ), settled as (
        update orders o set status = l.status, reason = l.reason, fill_price = l.price, fill_quantity = l.quantity,
            fill_total = l.price * l.quantity,
            attempts = case when l.is_resolution then o.attempts else l.attempts::json end,
            answer_status = coalesce(o.answer_status, l.answer_status),
            answer_body = coalesce(o.answer_body, l.answer_body),
            updated_at = greatest(o.updated_at, l.at)
        from able l
        where o.user_id = l.user_id and o.order_id = l.order_id
        returning o.user_id, o.order_id, o.portfolio_id, o.symbol, o.status, o.reason, o.fill_price, o.fill_quantity,
            o.fill_total, l.at, l.status_before, l.actor, l.note, l.place
    ), bookings as (
        select user_id, portfolio_id, symbol, sum(fill_quantity) as quantity, sum(fill_total) as cost,
            count(*) as fills, max(at) as at
        from settled where status = 'filled'
        group by user_id, portfolio_id, symbol
    ), touched as (
        select user_id, portfolio_id, sum(fills)::bigint as fills, max(at) as at
        from bookings group by user_id, portfolio_id
    ), own as (
        select t.* from touched t join portfolios p on p.user_id = t.user_id and p.portfolio_id = t.portfolio_id
        order by t.user_id, t.portfolio_id
        for no key update of p
    ), moved as (
        update portfolios p set version = p.version + own.fills, updated_at = greatest(p.updated_at, own.at),
            -- It was deleted between the order's two writes: what was bought must be seen.
            deleted_at = null
        from own
        where p.user_id = own.user_id and p.portfolio_id = own.portfolio_id
        returning p.user_id, p.portfolio_id
    ), held as (
        insert into holdings as h (user_id, portfolio_id, symbol, quantity, cost, version, updated_at)
        select b.user_id, b.portfolio_id, b.symbol, b.quantity, b.cost, b.fills, b.at
        from moved m join bookings b on b.user_id = m.user_id and b.portfolio_id = m.portfolio_id
        order by b.user_id, b.portfolio_id, b.symbol
        on conflict (user_id, portfolio_id, symbol) do update
            set quantity = h.quantity + excluded.quantity, cost = h.cost + excluded.cost,
                version = h.version + excluded.version, updated_at = greatest(h.updated_at, excluded.updated_at)
    ), logged as (
        insert into order_events (user_id, order_id, from_status, status, reason, fill_price, fill_quantity,
            fill_total, at, seq, actor, note)
        select s.user_id, s.order_id, s.status_before, s.status, s.reason, s.fill_price, s.fill_quantity, s.fill_total,
            s.at, row_number() over (order by s.place),
            case when s.status_before = 'unknown' then s.actor end,
            case when s.status_before = 'unknown' then s.note end
        from settled s
    )
    select s.place::integer, true, s.status_before = 'unknown' from settled s;
end $$;

-- The hash chain over all events in the order (txid, seq, user). A link covers up to some thousand events: it holds the digest
-- of each, and its own hash covers them and the link before. It is made in the background and only up to the oldest
-- transaction that still runs, so that an event which commits late is never skipped. It spans users: one row for
-- many events, written by one process at a time.
create table order_event_chain (
    link          bigint      primary key check (link >= 1),
    previous_hash bytea       not null check (octet_length(previous_hash) = 32),
    hash          bytea       not null check (octet_length(hash) = 32),
    events        integer     not null check (events between 1 and 10000),
    -- Events in all links up to and including this one.
    total         bigint      not null check (total >= events),
    last_txid     xid8        not null,
    last_seq      integer     not null,
    last_user_id  uuid        not null,
    -- SHA-256 of each event, one after the other.
    digests       bytea       not null,
    made_at       timestamptz not null,
    constraint order_event_chain_digests check (octet_length(digests) = 32 * events)
);

create function link_continues_the_chain() returns trigger language plpgsql as $$
declare
    last order_event_chain;
begin
    select * into last from order_event_chain c order by c.link desc limit 1;
    if new.link <> coalesce(last.link, 0) + 1
       or new.previous_hash <> coalesce(last.hash, decode(repeat('00', 32), 'hex'))
       or new.total <> coalesce(last.total, 0) + new.events
       or (new.last_txid, new.last_seq, new.last_user_id) <= (last.last_txid, last.last_seq, last.last_user_id) then
        raise exception 'link % does not continue the chain', new.link
            using errcode = 'integrity_constraint_violation';
    end if;
    return new;
end $$;

create trigger order_event_chain_continues before insert on order_event_chain
    for each row execute function link_continues_the_chain();
create trigger order_event_chain_append_only before update or delete on order_event_chain
    for each row execute function refuse_change();
create trigger order_event_chain_not_truncated before truncate on order_event_chain
    for each statement execute function refuse_change();

-- A function that runs with its owner's rights must not be led to somebody else's tables; trigger functions likewise.
do $$
declare
    own regprocedure;
begin
    foreach own in array array[
        'place_orders'::regproc::regprocedure, 'settle_orders'::regproc::regprocedure,
        'refuse_change()'::regprocedure, 'portfolio_only_moves_forward()'::regprocedure,
        'holding_only_grows()'::regprocedure, 'order_begins_legally()'::regprocedure,
        'order_changes_legally()'::regprocedure, 'event_names_its_transaction()'::regprocedure,
        'portfolio_goes_empty()'::regprocedure, 'link_continues_the_chain()'::regprocedure,
        'report_is_sealed()'::regprocedure, 'report_follows_its_predecessor()'::regprocedure,
        'sent_is_final()'::regprocedure]
    loop
        execute format('alter function %s set search_path = %I, pg_temp', own, current_schema());
        execute format('revoke execute on function %s from public', own);
    end loop;
end $$;
