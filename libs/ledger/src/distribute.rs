//! Tables over several servers, by the Citus extension: all rows of a user lie on one of them.

use fuse_platform::Secret;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use crate::migrate::Migrated;
use crate::{Ledger, LedgerError};

/// What [`Ledger::distribute`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Distributed {
    /// The migration that came first.
    pub migrated: Migrated,
    /// Whether the tables were distributed before.
    pub was_done: bool,
}

/// All in one transaction. The order of the tables is that of their foreign keys, which Citus wants to be within one group.
///
/// Row triggers then run where the rows are; they look at no other user's, which is what Citus cannot know. An API key
/// is found before its user is known, so keys are copied to every server, and a copied table cannot refer to one that
/// is not. Reports, their deliveries and runs and the hash chain span users and stay on the coordinator: their foreign keys
/// lead to none but each other, and their triggers read their own table. A trigger that is told all rows of a statement cannot
/// run where the rows are, so foreign keys take the place of those that look up what is referenced.
const DISTRIBUTE: &str = "
    set local citus.enable_unsafe_triggers = on;
    set local citus.multi_shard_modify_mode = 'sequential';
    alter table api_keys drop constraint if exists api_keys_user_id_fkey;
    drop trigger orders_have_their_portfolio on orders;
    drop trigger order_events_have_their_order on order_events;
    alter table orders add foreign key (user_id, portfolio_id) references portfolios (user_id, portfolio_id);
    alter table order_events add foreign key (user_id, order_id) references orders (user_id, order_id);
    select create_reference_table('api_keys');
    select create_distributed_table('users', 'user_id');
    select create_distributed_table('portfolios', 'user_id', colocate_with => 'users');
    select create_distributed_table('holdings', 'user_id', colocate_with => 'users');
    select create_distributed_table('orders', 'user_id', colocate_with => 'users');
    select create_distributed_table('order_events', 'user_id', colocate_with => 'users')";

impl Ledger {
    /// Migrates as [`Ledger::migrate_as`] does, then distributes the tables by user. Repeating it changes nothing.
    ///
    /// # Errors
    /// `CitusMissing` where the extension is not in this database (nothing is changed then), `Refused` when Citus refuses,
    /// and those of [`Ledger::migrate_as`].
    pub async fn distribute(&self, owner: Option<&Secret>) -> Result<Distributed, LedgerError> {
        let mut connection = self.owner_connection(owner).await?;
        ensure_citus(&mut connection).await?;
        let migrated = self.migrate_on(&mut connection).await?;
        let was_done =
            sqlx::query("select from pg_dist_partition where logicalrelid = 'order_events'::regclass")
                .fetch_optional(&mut connection)
                .await?
                .is_some();
        if !was_done {
            sqlx::raw_sql(DISTRIBUTE).execute(&mut connection).await?;
        }
        Ok(Distributed { migrated, was_done })
    }
}

async fn ensure_citus(connection: &mut PgConnection) -> Result<(), LedgerError> {
    let found = sqlx::query(
        "select exists (select from pg_extension where extname = 'citus') as is_here,
                exists (select from pg_available_extensions where name = 'citus') as is_installed",
    )
    .fetch_one(connection)
    .await?;
    if found.try_get("is_here")? {
        return Ok(());
    }
    Err(LedgerError::CitusMissing {
        what_to_do: if found.try_get("is_installed")? {
            "let an administrator run `create extension citus` in it first"
        } else {
            "this PostgreSQL server does not offer it"
        },
    })
}
