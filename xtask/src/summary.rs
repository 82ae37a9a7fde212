//! What a person wants to know when everything runs.

use uuid::Uuid;

/// Everything that is printed at the end of `up` and `dev`.
pub struct Summary {
    /// A command that must run before the others work.
    pub first: Option<String>,
    /// Base URL that works as printed.
    pub api_url: String,
    /// A user's key that reads and trades.
    pub key: String,
    /// The service's first admin key.
    pub admin_key: String,
    /// Lines that say where metrics are.
    pub metrics: Vec<String>,
    /// Where mails are.
    pub mail: String,
    /// The command that runs the report now.
    pub report: String,
    /// The simulated vendor's control port.
    pub vendor_control: Option<String>,
    /// Where the dashboards are.
    pub dashboards: String,
    /// How to stop it all.
    pub stop: String,
}

impl Summary {
    /// Prints it, with commands that work as printed.
    pub fn print(&self) {
        let Self {
            api_url,
            key,
            admin_key,
            mail,
            report,
            dashboards,
            stop,
            ..
        } = self;
        println!(
            r#"
Fuse is running.

  API         {api_url}   (description: {api_url}/openapi.json)
  user's key  {key}
  admin key   {admin_key}

  FUSE={api_url}
  KEY={key}
  curl -s "$FUSE/v1/stocks?limit=3" -H "x-api-key: $KEY"

  PRICE=$(curl -s "$FUSE/v1/stocks/AAPL" -H "x-api-key: $KEY" | sed 's/.*"price":"\([0-9.]*\)".*/\1/')
  curl -s "$FUSE/v1/orders" -H "x-api-key: $KEY" -H "Idempotency-Key: $(cat /proc/sys/kernel/random/uuid)" \
    -H 'content-type: application/json' \
    -d "{{\"symbol\":\"AAPL\",\"side\":\"buy\",\"quantity\":\"1.5\",\"limitPrice\":\"$PRICE\"}}"

  curl -s "$FUSE/v1/orders" -H "x-api-key: $KEY"
"#
        );
        if let Some(first) = &self.first {
            println!("  first of all: {first}\n");
        }
        println!("  metrics     {}", self.metrics.join("\n              "));
        println!("  dashboards  {dashboards}");
        println!("  mail        {mail}");
        println!("  report now  {report}");
        if let Some(control) = &self.vendor_control {
            println!(
                "  vendor      curl -s {control}/control/state; curl -s -X POST {control}/control/tick -d '{{\"by\":1}}'"
            );
        }
        println!("  stop        {stop}\n");
    }
}

/// A secret that nobody can guess: 244 random bits as text.
pub fn new_secret() -> String {
    format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple())
}

/// A JSON string's text; `-` for anything else.
pub fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("-")
}
