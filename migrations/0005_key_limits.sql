-- What one API key may order, beside what holds for every key. Null: nothing of its own.

alter table api_keys
    -- Largest price times quantity of one order.
    add column max_notional numeric
        check (max_notional > 0 and max_notional < 1e19 and scale(trim_scale(max_notional)) <= 9),
    -- Orders in one day in UTC, those that were rejected not counted.
    add column max_orders_per_day integer check (max_orders_per_day > 0);
