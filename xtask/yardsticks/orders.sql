-- What an order costs PostgreSQL at least: the two writes of one order, each as one statement for one order, as a
-- careful service without group commit has them. `cargo xtask bench orders` runs this by pgbench beside our own API;
-- libs/ledger/tests/it/yardstick.rs checks that the rows are those that the ledger writes.
--
-- Variables: users, portfolios (spread over the users), symbols, answer_bytes (length of the answer that is kept).
-- Ids are numbers written as UUIDs; the first portfolio of a user has the user's id.

\set portfolio random(0, :portfolios - 1)
\set user 1 + :portfolio % :users
\set place :user + 1000 * (:portfolio / :users)
\set symbol random(1, :symbols)

-- one transaction: begin;
-- Write 1, before the vendor is called. Its id begins with the time, as those of our orders do.
with placed as (
    insert into orders (user_id, order_id, portfolio_id, idempotency_key, request_sha256, client_order_id,
        symbol, side, quantity, limit_price, status, reason, quote_price, quote_as_of, quote_snapshot_id,
        answer_status, answer_body, created_at, updated_at)
    select p.user_id,
        (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0')
            || right(gen_random_uuid()::text, 23))::uuid,
        p.portfolio_id, gen_random_uuid()::text, decode(repeat('5a', 32), 'hex'), null,
        'S' || :symbol, 'buy', '1.5'::numeric, '100.25'::numeric, 'submitted', null,
        '100.25'::numeric, now(), '01900000-0000-7000-8000-000000000000', null, null, now(), now()
    from portfolios p
    where p.user_id = lpad(:user, 32, '0')::uuid and p.portfolio_id = lpad(:place, 32, '0')::uuid
    on conflict do nothing
    returning user_id, order_id, status, reason, created_at
), logged as (
    insert into order_events (user_id, order_id, status, reason, at)
    select user_id, order_id, status, reason, created_at from placed
)
select order_id from placed \gset

-- Write 2, after it. The portfolio is locked before the holding. Written so that the order is found by its key: by the plain
-- condition the planner takes the index of open orders, which holds a dead entry for each order since the last vacuum.
with settled as (
    update orders set status = 'filled', reason = null, fill_price = '100.25'::numeric, fill_quantity = '1.5'::numeric,
        fill_total = '150.375'::numeric,
        attempts = '[{"at": "2026-11-25T14", "millis": 83, "reached": "answered", "detail": "http 200"}]',
        answer_status = 201, answer_body = repeat('a', :answer_bytes), updated_at = now()
    where user_id = lpad(:user, 32, '0')::uuid and order_id = :order_id and status || '' = 'submitted'
    returning *
), moved as (
    update portfolios p set version = p.version + 1, updated_at = greatest(p.updated_at, now())
    from settled s
    where p.user_id = s.user_id and p.portfolio_id = s.portfolio_id
    returning p.user_id, p.portfolio_id
), held as (
    insert into holdings as h (user_id, portfolio_id, symbol, quantity, cost, updated_at)
    select m.user_id, m.portfolio_id, s.symbol, s.fill_quantity, s.fill_total, s.updated_at
    from moved m join settled s using (user_id, portfolio_id)
    on conflict (user_id, portfolio_id, symbol) do update
        set quantity = h.quantity + excluded.quantity, cost = h.cost + excluded.cost,
            version = h.version + 1, updated_at = greatest(h.updated_at, excluded.updated_at)
), logged as (
    -- The second place, for the variant with both writes in one transaction.
    insert into order_events (user_id, order_id, from_status, status, reason, fill_price, fill_quantity, fill_total, at,
        seq)
    select user_id, order_id, 'submitted', status, reason, fill_price, fill_quantity, fill_total, updated_at, 2
    from settled
)
select user_id, order_id, portfolio_id, client_order_id, symbol, side, quantity::text as quantity,
    limit_price::text as limit_price, status, reason, quote_price::text as quote_price, quote_as_of,
    quote_snapshot_id, fill_price::text as fill_price, fill_quantity::text as fill_quantity,
    fill_total::text as fill_total, attempts::text as attempts, answer_status, answer_body, created_at, updated_at
from settled;
-- one transaction: commit;
