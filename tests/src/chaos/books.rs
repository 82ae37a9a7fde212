//! What PostgreSQL itself can tell of the books: exact sums, legal histories, prices and their age. Every query lists what is wrong.

use anyhow::Result;

use super::Violations;
use super::world::{MAX_QUOTE_AGE, World};

/// I1, I2: holdings and the fold of filled orders, in both directions, to the last decimal.
const HOLDINGS: &str = "
    select 'holding and fills differ: ' || coalesce(h.user_id, f.user_id) || ' ' || coalesce(h.symbol, f.symbol)
        || ': held ' || coalesce(h.quantity, 0) || ' for ' || coalesce(h.cost, 0) || ' in version ' || coalesce(h.version, 0)
        || ', filled ' || coalesce(f.quantity, 0) || ' for ' || coalesce(f.cost, 0) || ' in ' || coalesce(f.fills, 0)
    from holdings h full join (
        select user_id, portfolio_id, symbol, sum(fill_quantity) as quantity, sum(fill_total) as cost, count(*) as fills
        from orders where status = 'filled' group by user_id, portfolio_id, symbol
    ) f using (user_id, portfolio_id, symbol)
    where (h.quantity, h.cost, h.version) is distinct from (f.quantity, f.cost, f.fills)";

/// A portfolio begins with version 1 and moves by one with each fill.
const VERSIONS: &str = "
    select 'portfolio ' || p.portfolio_id || ' has version ' || p.version || ' after ' || count(o.order_id) || ' fills'
    from portfolios p left join orders o on (o.user_id, o.portfolio_id, o.status) = (p.user_id, p.portfolio_id, 'filled')
    group by p.user_id, p.portfolio_id, p.version having p.version <> 1 + count(o.order_id)";

/// Each order's events, in their order, are one of the legal paths, and the last one is the order as it stands.
const HISTORIES: &str = "
    with paths as (
        select user_id, order_id, string_agg(coalesce(from_status, '') || '>' || status, ' ' order by txid, seq) as path,
            (array_agg(status order by txid desc, seq desc))[1] as status,
            (array_agg(reason order by txid desc, seq desc))[1] as reason,
            (array_agg((fill_price, fill_quantity, fill_total)::text order by txid desc, seq desc))[1] as fill
        from order_events group by user_id, order_id
    )
    select 'order ' || o.order_id || ' is ' || o.status || ' with the events ' || coalesce(p.path, 'none') || ' ' || coalesce(p.fill, '')
    from orders o left join paths p using (user_id, order_id)
    where p.path is null or p.status <> o.status
        or p.fill <> (o.fill_price, o.fill_quantity, o.fill_total)::text
        -- What a resolution says is its own.
        or (p.reason is distinct from o.reason and p.path !~ 'unknown>')
        or p.path !~ '^(>rejected|>submitted( submitted>(filled|failed|unknown( unknown>(filled|failed))?))?)$'";

/// I10: nothing is sent further than exactly 2 % from its quote.
const BAND: &str = "
    select 'order ' || order_id || ' at ' || limit_price || ' with the quote ' || coalesce(quote_price::text, 'none')
    from orders
    where status <> 'rejected' and (50 * abs(limit_price - quote_price) <= quote_price) is not true";

/// I10: nor on a quote that was too old when the order was placed, or from as far ahead.
fn too_old() -> String {
    format!(
        "select 'order ' || order_id || ' of ' || created_at || ' has a quote of another time: ' || coalesce(quote_as_of::text, 'none')
         from orders
         where status <> 'rejected' and (abs(extract(epoch from created_at - quote_as_of)) <= {}) is not true",
        MAX_QUOTE_AGE.as_secs()
    )
}

/// No session sits in a transaction; none of ours ever opens one.
const IDLE: &str = "
    select 'session ' || pid || ' is ' || state || ' for ' || age(clock_timestamp(), state_change) || ': ' || query
    from pg_stat_activity
    where datname = current_database() and state like 'idle in transaction%'";

const STILL_SUBMITTED: &str = "
    select 'order ' || order_id || ' is submitted for good' from orders where status = 'submitted'";

/// What is wrong in the books.
///
/// # Errors
/// When PostgreSQL does not answer.
pub(super) fn violations(world: &World) -> Result<Violations> {
    let mut found = Violations::new();
    let too_old = too_old();
    for query in [
        HOLDINGS,
        VERSIONS,
        HISTORIES,
        BAND,
        &too_old,
        IDLE,
        STILL_SUBMITTED,
    ] {
        found.extend(world.sql(query)?.lines().map(str::to_owned));
    }
    Ok(found)
}
