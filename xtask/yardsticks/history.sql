-- Filled orders that were placed within a year, with their events, as the service would have written them: the orders
-- {first} to {last} of {count}, in one transaction. All triggers are on, so each is placed and then filled, in two writes.
-- xtask/src/bench/orders/history.rs fills in what stands in braces, and makes the holdings once all orders are there.
--
-- The planner has no statistics of what was just made: it must not read the whole table for each chunk.
set local enable_hashjoin = off;
set local enable_mergejoin = off;

create temporary table made on commit drop as
select n,
    lpad((n % {users} + 1)::text, 32, '0')::uuid as user_id,
    lpad((n % {users} + 1 + 1000 * (n / {users} % ({portfolios} / {users})))::text, 32, '0')::uuid as portfolio_id,
    -- A UUIDv7: 48 bits of time, then what makes it unique.
    (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '70008000' || lpad(to_hex(n), 12, '0'))::uuid
        as order_id,
    (array[{symbols}])[n / {portfolios} % {symbol_count} + 1] as symbol,
    1 + (n % 900) / 100.0::numeric as quantity,
    100 + (n % 5000) / 100.0::numeric as price,
    at
from generate_series({first}::bigint, {last}::bigint) n,
    lateral (select timestamptz '{from}' + interval '{days} days' * (n / {count}::float8) as at) time;

insert into orders (user_id, order_id, portfolio_id, idempotency_key, request_sha256, symbol, side, quantity, limit_price,
    status, quote_price, quote_as_of, quote_snapshot_id, created_at, updated_at)
select user_id, order_id, portfolio_id, gen_random_uuid()::text, sha256(uuid_send(order_id)), symbol, 'buy', quantity, price,
    'submitted', price, at - interval '20 seconds', '01900000-0000-7000-8000-000000000000', at, at
from made order by n;

insert into order_events (user_id, order_id, status, at, seq)
select user_id, order_id, 'submitted', at, 2 * (n - {first}) + 1 from made order by n;

update orders o set status = 'filled', fill_price = m.price, fill_quantity = m.quantity, fill_total = m.price * m.quantity,
    attempts = '[{"at": "2026-01-05T14:30:00Z", "millis": 83, "reached": "answered", "detail": "http 200"}]',
    answer_status = 201, answer_body = '{"made": "' || repeat('a', 600) || '"}', updated_at = m.at + interval '90 ms'
from made m where o.user_id = m.user_id and o.order_id = m.order_id;

insert into order_events (user_id, order_id, from_status, status, fill_price, fill_quantity, fill_total, at, seq)
select user_id, order_id, 'submitted', 'filled', price, quantity, price * quantity, at + interval '90 ms',
    2 * (n - {first}) + 2
from made order by n;
