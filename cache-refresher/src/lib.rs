//! Crawls the vendor into DynamoDB, once per tick.
