//! Step 2: the spec becomes a [`ValidatedService`], or is refused in a sentence that names the field.
//!
//! The API server has checked limits, patterns and CEL rules already. They are checked again where a manifest would
//! be wrong or dangerous otherwise, since an older definition may be installed; what a schema cannot say (quantities,
//! address ranges, time zones, names of variables that the operator sets itself) is only checked here.

use std::net::IpAddr;

use fuse_crds::FuseTradingServiceSpec;
use fuse_crds::v1alpha1::{DeliverySpec, ResourcesSpec};

use crate::build::config::is_set_by_operator;
use crate::dereference::Seen;
use crate::names::Names;
use crate::rollout::migration_hash;

/// A spec that nothing can be made of until somebody changes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Invalid {
    /// Path of the field below `spec` or `metadata`.
    pub field: String,
    pub message: String,
}

/// A spec with every value checked, and what follows from it.
#[derive(Debug, Clone)]
pub struct ValidatedService {
    pub names: Names,
    pub namespace: String,
    pub uid: String,
    pub spec: FuseTradingServiceSpec,
    /// Image reference of every container.
    pub image: String,
    /// Hash of the migration that this spec wants.
    pub migration_hash: String,
    pub api_resources: Resources,
    pub refresher_resources: Resources,
    /// Port of the vendor's URL.
    pub vendor_port: u16,
    /// Port of DynamoDB.
    pub dynamodb_port: u16,
    /// Local time of the report, when the schedule names one time a day.
    pub report_time: Option<String>,
}

/// CPU and memory with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    pub cpu_request: String,
    pub memory_request: String,
    pub cpu_limit: Option<String>,
    pub memory_limit: String,
}

/// Checks everything.
///
/// # Errors
/// The first field that is wrong.
pub fn validate(seen: &Seen) -> Result<ValidatedService, Invalid> {
    let spec = seen.spec();
    let names = Names::parse(&seen.key.name).map_err(|error| invalid("metadata.name", error))?;
    check_image(spec)?;
    check_trading(spec)?;
    check_api(spec)?;
    check_report(spec)?;
    for (index, range) in spec.network_policy.egress_cidrs.iter().enumerate() {
        check_cidr(range)
            .map_err(|message| invalid(&format!("networkPolicy.egressCidrs[{index}]"), message))?;
    }
    let endpoint = spec.dynamodb.endpoint.as_deref();
    let image = spec.image.reference();
    Ok(ValidatedService {
        names,
        namespace: seen.key.namespace.clone(),
        uid: seen.uid.clone(),
        migration_hash: migration_hash(
            &image,
            &spec.migration.trigger,
            spec.database.migration_url.as_ref(),
        ),
        image,
        api_resources: resources("api.resources", &spec.api.resources, "100m", "64Mi")?,
        refresher_resources: resources("refresher.resources", &spec.refresher.resources, "50m", "32Mi")?,
        vendor_port: url_port("vendor.baseUrl", &spec.vendor.base_url)?,
        dynamodb_port: endpoint.map_or(Ok(443), |url| url_port("dynamodb.endpoint", url))?,
        report_time: spec
            .report
            .as_ref()
            .and_then(|report| daily_time(&report.schedule)),
        spec: spec.clone(),
    })
}

fn invalid(field: &str, message: impl ToString) -> Invalid {
    Invalid {
        field: field.to_owned(),
        message: message.to_string(),
    }
}

fn ensure(holds: bool, field: &str, message: &str) -> Result<(), Invalid> {
    if holds {
        Ok(())
    } else {
        Err(invalid(field, message))
    }
}

fn check_image(spec: &FuseTradingServiceSpec) -> Result<(), Invalid> {
    let image = &spec.image;
    ensure(
        image.tag.is_some() != image.digest.is_some(),
        "image",
        "set exactly one of tag and digest",
    )
}

fn check_trading(spec: &FuseTradingServiceSpec) -> Result<(), Invalid> {
    ensure(
        is_tolerance(&spec.price_tolerance_percent),
        "priceTolerancePercent",
        "must be a decimal from 0 to 99.9999 with at most four decimals",
    )?;
    ensure(
        spec.max_quote_age_seconds >= spec.refresher.interval_seconds,
        "maxQuoteAgeSeconds",
        "maxQuoteAgeSeconds must not be below refresher.intervalSeconds",
    )?;
    let url = &spec.vendor.base_url;
    let is_allowed = url.starts_with("https://") || (spec.vendor.allow_http && url.starts_with("http://"));
    ensure(
        is_allowed && !url.contains(['@', '?', '#']),
        "vendor.baseUrl",
        "baseUrl must be https without user or query; http needs allowHttp",
    )
}

fn is_tolerance(text: &str) -> bool {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str, max: usize| {
        (1..=max).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    digits(whole, 2) && digits(decimals, 4) && (whole == "0" || !whole.starts_with('0'))
}

fn check_api(spec: &FuseTradingServiceSpec) -> Result<(), Invalid> {
    let api = &spec.api;
    if let Some(autoscaling) = &api.autoscaling {
        let is_range = autoscaling.min_replicas <= autoscaling.max_replicas;
        ensure(
            is_range,
            "api.autoscaling",
            "minReplicas must not exceed maxReplicas",
        )?;
    }
    if let Some(disruption) = &api.disruption {
        let is_one = disruption.min_available.is_some() != disruption.max_unavailable.is_some();
        ensure(
            is_one,
            "api.disruption",
            "set exactly one of minAvailable and maxUnavailable",
        )?;
        let replicas = api
            .autoscaling
            .as_ref()
            .map_or(api.replicas, |autoscaling| autoscaling.min_replicas);
        ensure(
            disruption.min_available.is_none_or(|min| min < replicas),
            "api.disruption",
            "disruption.minAvailable must be below the replica count, or drains never finish",
        )?;
    }
    for variable in &api.env {
        if is_set_by_operator(&variable.name) {
            let field = format!("api.env[{}]", variable.name);
            return Err(invalid(
                &field,
                "this variable is set by the operator; use the field of the spec",
            ));
        }
    }
    Ok(())
}

fn check_report(spec: &FuseTradingServiceSpec) -> Result<(), Invalid> {
    let Some(report) = &spec.report else {
        return Ok(());
    };
    ensure(
        !report.schedule.contains("TZ="),
        "report.schedule",
        "schedule must not contain TZ=; set timeZone",
    )?;
    ensure(
        report.schedule.starts_with('@') || report.schedule.split_whitespace().count() == 5,
        "report.schedule",
        "must have five fields: minute, hour, day of month, month, day of week",
    )?;
    let is_zone = report.time_zone != "Local" && jiff::tz::TimeZone::get(&report.time_zone).is_ok();
    ensure(is_zone, "report.timeZone", "must be an IANA name such as Etc/UTC")?;
    let DeliverySpec { from, ses, smtp } = &report.delivery;
    ensure(
        ses.is_some() != smtp.is_some(),
        "report.delivery",
        "set exactly one of ses and smtp",
    )?;
    for address in report.recipients.iter().chain([from]) {
        // A comma would become a second recipient in the settings.
        let is_one = address.contains('@') && !address.contains([',', ' ', '\n']);
        ensure(is_one, "report", &format!("{address:?} is not one mail address"))?;
    }
    Ok(())
}

/// `59 23 * * *` is 23:59; other schedules have no one time of day.
fn daily_time(schedule: &str) -> Option<String> {
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    let [minute, hour, "*", "*", "*"] = fields[..] else {
        return None;
    };
    let minute: u8 = minute.parse().ok().filter(|minute| *minute < 60)?;
    let hour: u8 = hour.parse().ok().filter(|hour| *hour < 24)?;
    Some(format!("{hour:02}:{minute:02}"))
}

fn check_cidr(range: &str) -> Result<(), &'static str> {
    const MESSAGE: &str = "must be an address range such as 10.0.0.0/8";
    let (address, bits) = range.split_once('/').ok_or(MESSAGE)?;
    let address: IpAddr = address.parse().map_err(|_| MESSAGE)?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    match bits.parse::<u8>() {
        Ok(bits) if bits <= bits_max => Ok(()),
        _ => Err(MESSAGE),
    }
}

fn url_port(field: &str, url: &str) -> Result<u16, Invalid> {
    let uri: http::Uri = url
        .parse()
        .map_err(|_| invalid(field, "must be a URL with a host"))?;
    ensure(
        uri.host().is_some_and(|host| !host.is_empty()),
        field,
        "must be a URL with a host",
    )?;
    let standard = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    Ok(uri.port_u16().unwrap_or(standard))
}

fn resources(field: &str, spec: &ResourcesSpec, cpu: &str, memory: &str) -> Result<Resources, Invalid> {
    let or = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
    let memory_request = or(&spec.requests.memory, memory);
    // A request above the default limit raises the limit; a stated limit is taken as it is.
    let default_limit = if thousandths(&memory_request) > thousandths("128Mi") {
        memory_request.as_str()
    } else {
        "128Mi"
    };
    let resources = Resources {
        cpu_request: or(&spec.requests.cpu, cpu),
        memory_limit: or(&spec.limits.memory, default_limit),
        cpu_limit: spec.limits.cpu.clone(),
        memory_request,
    };
    let fits = |request: &str, limit: &str| match (thousandths(request), thousandths(limit)) {
        (Some(request), Some(limit)) => request <= limit,
        _ => false,
    };
    let message = "each must be a quantity such as 100m or 64Mi, and no request above its limit";
    ensure(
        fits(&resources.memory_request, &resources.memory_limit),
        &format!("{field}.memory"),
        message,
    )?;
    let cpu_limit = resources.cpu_limit.as_ref().unwrap_or(&resources.cpu_request);
    ensure(
        fits(&resources.cpu_request, cpu_limit),
        &format!("{field}.cpu"),
        message,
    )?;
    Ok(resources)
}

/// A quantity in thousandths, exactly. `None` when it is none.
fn thousandths(quantity: &str) -> Option<u128> {
    let digits = quantity.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor: u128 = match &quantity[digits.len()..] {
        "m" => 1,
        "" => 1_000,
        "k" => 1_000_000,
        "M" => 1_000_000_000,
        "G" => 1_000_000_000_000,
        "T" => 1_000_000_000_000_000,
        "Ki" => 1_000 << 10,
        "Mi" => 1_000 << 20,
        "Gi" => 1_000 << 30,
        "Ti" => 1_000 << 40,
        _ => return None,
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    if decimals.len() > 3 || whole.len() > 16 {
        return None;
    }
    let whole: u128 = whole.parse().ok()?;
    let decimals: u128 = format!("{decimals:0<3}").parse().ok()?;
    // Below a thousandth nothing is left: the API server rounds such a value up, which compares the same here.
    Some(whole * factor + (decimals * factor).div_ceil(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_compare_exactly() {
        assert_eq!(thousandths("100m"), Some(100));
        assert_eq!(thousandths("0.1"), Some(100));
        assert_eq!(thousandths("1"), Some(1_000));
        assert!(thousandths("64Mi") < thousandths("128Mi"));
        assert!(thousandths("1G") < thousandths("1Gi"));
        for wrong in ["", "Mi", "1.2345", "-1", "1e3", "1Xi"] {
            assert_eq!(thousandths(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn time_of_a_daily_schedule() {
        assert_eq!(daily_time("59 23 * * *"), Some("23:59".into()));
        assert_eq!(daily_time("5 7 * * *"), Some("07:05".into()));
        for other in ["*/5 * * * *", "59 23 * * 1", "@daily", "60 23 * * *"] {
            assert_eq!(daily_time(other), None, "{other}");
        }
    }

    #[test]
    fn tolerance_is_a_short_decimal() {
        for right in ["0", "2", "99.9999", "0.5", "10"] {
            assert!(is_tolerance(right), "{right}");
        }
        for wrong in ["", "100", "01", "1.", ".5", "1.23456", "-1", "1e1", "2 "] {
            assert!(!is_tolerance(wrong), "{wrong}");
        }
    }

    #[test]
    fn address_ranges_are_parsed() {
        assert_eq!(check_cidr("10.0.0.0/8"), Ok(()));
        assert_eq!(check_cidr("fd00::/8"), Ok(()));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "10.0.0/8", "::/129"] {
            assert!(check_cidr(wrong).is_err(), "{wrong}");
        }
    }
}
