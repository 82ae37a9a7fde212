//! The daily report: a CronJob, never two at a time.

use serde_json::json;

use super::pod::{self, Program};
use super::{Prepared, prepared};
use crate::facts::Kind;
use crate::labels;
use crate::names::Component;
use crate::validate::ValidatedService;

const COMPONENT: Component = Component::Report;
/// A run that could not start on time (no node, controller away) still starts within this.
const STARTING_DEADLINE_SECS: i32 = 3600;
/// A run that takes longer hangs.
const ACTIVE_DEADLINE_SECS: i32 = 1800;

/// The CronJob, if a report is asked for.
pub fn cron_job(service: &ValidatedService) -> Option<Prepared> {
    let report = service.spec.report.as_ref()?;
    let name = service.names.of(COMPONENT);
    let program = Program {
        component: COMPONENT,
        binary: "report-job",
        args: &[],
        resources: &service.refresher_resources,
        is_server: false,
        has_http: false,
        has_config: true,
        env: Vec::new(),
    };
    let manifest = json!({
        "metadata": labels::metadata(&service.names, &service.namespace, &service.uid, &name, Some(COMPONENT)),
        "spec": {
            "schedule": report.schedule,
            "timeZone": report.time_zone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": STARTING_DEADLINE_SECS,
            "suspend": service.spec.suspended,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {
                // Without our managed-by label: these Jobs belong to the CronJob, and nobody here watches them.
                "metadata": {"labels": labels::selector(&service.names, COMPONENT)},
                "spec": {
                    "backoffLimit": 3,
                    "activeDeadlineSeconds": ACTIVE_DEADLINE_SECS,
                    "template": pod::template(service, &program),
                },
            },
        },
    });
    Some(prepared(Kind::CronJob, name, manifest))
}
