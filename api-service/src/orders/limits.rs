//! What a key may order.

use fuse_domain::{Amount, OrderPolicy};
use uuid::Uuid;

use crate::auth::Caller;

/// How orders are taken; configuration.
#[derive(Clone, Copy, Debug)]
pub struct OrderSettings {
    /// An order without `Idempotency-Key` is refused; otherwise one is made for it.
    pub require_idempotency_key: bool,
    /// Orders in a day of a key that has no such limit of its own; `None`: any number.
    pub max_per_day_per_key: Option<u32>,
}

/// Which key orders, and how much it may.
#[derive(Clone, Copy, Debug)]
pub struct KeyRules {
    /// `None`: the bootstrap key, which is not in the database and has no limits.
    pub key_id: Option<Uuid>,
    /// Largest price times quantity, beside the one that holds for every key.
    pub max_notional: Option<Amount>,
    /// Orders in a day, those that were rejected not counted; `None`: any number.
    pub max_per_day: Option<u32>,
}

impl KeyRules {
    /// The limits of this caller.
    #[must_use]
    pub fn of(caller: &Caller, settings: OrderSettings) -> Self {
        let key_id = caller.key_id;
        Self {
            key_id,
            max_notional: caller.limits.max_notional,
            max_per_day: caller
                .limits
                .max_orders_per_day
                .or(settings.max_per_day_per_key)
                .filter(|_| key_id.is_some()),
        }
    }

    /// The policy for everybody, with this key's own limit where it is the stricter one.
    #[must_use]
    pub fn narrow(&self, policy: &OrderPolicy) -> OrderPolicy {
        let own = self.max_notional.unwrap_or(policy.max_notional);
        OrderPolicy {
            max_notional: own.min(policy.max_notional),
            ..policy.clone()
        }
    }
}
