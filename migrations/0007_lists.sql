-- Lists of the orders that were not bought, newest first: they are few, and were looked for among all. Making the index takes
-- some seconds for ten million orders; those that are placed meanwhile wait for it.

create index orders_not_bought on orders (status, order_id) where status in ('rejected', 'failed');
