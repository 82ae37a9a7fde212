//! Every stable error code, once: status, title and whose fault it is. `docs/errors.md` explains each; a test compares both ways.

use http::StatusCode;

/// Whose fault a failure is, as the label `fault` of `fuse_http_requests_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request was wrong, or nothing failed.
    None,
    /// Ours: code, database, overload.
    Own,
    /// The vendor's: it is away, or its prices are too old.
    Vendor,
}

impl Fault {
    /// Label value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Own => "own",
            Self::Vendor => "vendor",
        }
    }
}

macro_rules! codes {
    ($($variant:ident $text:literal $status:ident $fault:ident $title:literal;)+) => {
        /// The `code` of a problem document. Stable: clients decide by it, never by title or detail.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $(#[doc = $title] $variant,)+ }

        impl Code {
            /// All codes, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)+ } }

            /// The HTTP status, always the same for one code.
            #[must_use]
            pub const fn status(self) -> StatusCode { match self { $(Self::$variant => StatusCode::$status,)+ } }

            /// Short sentence for people, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str { match self { $(Self::$variant => $title,)+ } }

            /// Whose fault it is.
            #[must_use]
            pub const fn fault(self) -> Fault { match self { $(Self::$variant => Fault::$fault,)+ } }
        }
    };
}

codes! {
    InvalidQuery "invalid_query" BAD_REQUEST None "A query parameter is wrong";
    InvalidPath "invalid_path" BAD_REQUEST None "A part of the path is wrong";
    InvalidHeader "invalid_header" BAD_REQUEST None "A header is missing or wrong";
    InvalidJson "invalid_json" BAD_REQUEST None "The body is not JSON";
    InvalidPageToken "invalid_page_token" BAD_REQUEST None "The page token is not valid here";
    KeyMissing "key_missing" UNAUTHORIZED None "An API key is needed";
    KeyInvalid "key_invalid" UNAUTHORIZED None "The API key is not valid";
    KeyRevoked "key_revoked" UNAUTHORIZED None "The API key was revoked";
    KeyExpired "key_expired" UNAUTHORIZED None "The API key has expired";
    ScopeMissing "scope_missing" FORBIDDEN None "The API key lacks a scope";
    NotFound "not_found" NOT_FOUND None "There is nothing at this address";
    StockNotFound "stock_not_found" NOT_FOUND None "No such stock";
    OrderNotFound "order_not_found" NOT_FOUND None "No such order";
    PortfolioNotFound "portfolio_not_found" NOT_FOUND None "No such portfolio";
    UserNotFound "user_not_found" NOT_FOUND None "No such user";
    ReportNotFound "report_not_found" NOT_FOUND None "No report of this day";
    KeyNotFound "key_not_found" NOT_FOUND None "No such API key";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED None "This address does not take that method";
    NotAcceptable "not_acceptable" NOT_ACCEPTABLE None "None of the accepted media types can be made";
    BodyTimeout "body_timeout" REQUEST_TIMEOUT None "The body did not arrive in time";
    IdempotencyInProgress "idempotency_in_progress" CONFLICT None "The first request with this key is still running";
    OrderNotUnknown "order_not_unknown" CONFLICT None "The order is not unknown";
    ResolutionConflict "resolution_conflict" CONFLICT None "The order was settled with another outcome";
    PortfolioNotEmpty "portfolio_not_empty" CONFLICT None "The portfolio is in use";
    DefaultPortfolio "default_portfolio" CONFLICT None "The default portfolio stays";
    SnapshotGone "snapshot_gone" GONE None "The snapshot of this walk is gone";
    PortfolioChanged "portfolio_changed" PRECONDITION_FAILED None "The portfolio is at another version";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE None "The body is too large";
    UriTooLong "uri_too_long" URI_TOO_LONG None "The address is too long";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE None "The body must be JSON";
    InvalidFields "invalid_fields" UNPROCESSABLE_ENTITY None "Fields of the body are wrong";
    IdempotencyKeyReused "idempotency_key_reused" UNPROCESSABLE_ENTITY None "The Idempotency-Key belongs to another request";
    UnknownSymbol "unknown_symbol" UNPROCESSABLE_ENTITY None "The vendor lists no such stock";
    PriceOutOfBand "price_out_of_band" UNPROCESSABLE_ENTITY None "The price is too far from the quote";
    NotionalTooLarge "notional_too_large" UNPROCESSABLE_ENTITY None "The order is too large";
    VendorRejected "vendor_rejected" UNPROCESSABLE_ENTITY None "The vendor refused the order";
    DailyLimitReached "daily_limit_reached" TOO_MANY_REQUESTS None "The key has placed as many orders today as it may";
    HeadersTooLarge "headers_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE None "The headers are too large";
    InternalError "internal_error" INTERNAL_SERVER_ERROR Own "Something failed inside the service";
    VendorForbidden "vendor_forbidden" BAD_GATEWAY Vendor "The vendor refused the service itself";
    Overloaded "overloaded" SERVICE_UNAVAILABLE Own "Too many requests at once";
    DatabaseUnavailable "database_unavailable" SERVICE_UNAVAILABLE Own "The database is away";
    NoMarketData "no_market_data" SERVICE_UNAVAILABLE Vendor "No prices are known yet";
    PriceStoreUnavailable "price_store_unavailable" SERVICE_UNAVAILABLE Own "The store of prices is away";
    QuoteStale "quote_stale" SERVICE_UNAVAILABLE Vendor "The quote is too old to trade on";
    VendorThrottled "vendor_throttled" SERVICE_UNAVAILABLE Vendor "The vendor limits the rate of orders";
    VendorUnreachable "vendor_unreachable" SERVICE_UNAVAILABLE Vendor "The vendor could not be reached";
    VerificationRunning "verification_running" SERVICE_UNAVAILABLE None "The check is still running";
    RequestTimeout "request_timeout" GATEWAY_TIMEOUT Own "The answer took too long";
}

macro_rules! field_codes {
    ($($variant:ident $text:literal;)+) => {
        /// The `code` of one entry of `errors`. Stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FieldCode { $($variant,)+ }

        impl FieldCode {
            /// All codes, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The text on the wire.
            #[must_use]
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $text,)+ } }
        }
    };
}

field_codes! {
    Syntax "syntax";
    Required "required";
    UnknownField "unknown_field";
    Duplicate "duplicate";
    NotSupported "not_supported";
    WrongType "wrong_type";
    Empty "empty";
    TooLong "too_long";
    BadCharacter "bad_character";
    NotANumber "not_a_number";
    NotPositive "not_positive";
    TooManyDecimals "too_many_decimals";
    TooManyDigits "too_many_digits";
    TooLarge "too_large";
    OutOfRange "out_of_range";
    NotAnId "not_an_id";
    NotATime "not_a_time";
    NotADate "not_a_date";
    NotATag "not_a_tag";
    NotOneOf "not_one_of";
    NotAllowed "not_allowed";
    Forged "forged";
    OtherFilter "other_filter";
    Refused "refused";
    Taken "taken";
}
