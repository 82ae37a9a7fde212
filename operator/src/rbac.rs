//! The permissions that the operator needs: the truth, which the chart's roles are compared with.
//!
//! No wildcard, no `update` but on finalizers, no `bind` or `escalate`. `get` serves only to look whether the name of
//! a new child is free.

use crate::facts::Kind;

/// One rule of a Role or ClusterRole, with the reason why it is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    pub group: &'static str,
    pub resource: &'static str,
    pub verbs: &'static [&'static str],
    pub why: &'static str,
}

const CHILD: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
const JOB: &[&str] = &["get", "list", "watch", "create", "patch"];

/// All rules. With `watch_namespaces` they are Roles in each of these, else one ClusterRole.
pub fn rules(watch_secrets: bool) -> Vec<Rule> {
    let group = fuse_crds::GROUP;
    let mut rules = vec![
        Rule {
            group,
            resource: fuse_crds::PLURAL,
            verbs: &["list", "watch"],
            why: "sees what is asked for",
        },
        Rule {
            group,
            resource: "fusetradingservices/status",
            verbs: &["patch"],
            why: "answers",
        },
        Rule {
            group,
            resource: "fusetradingservices/finalizers",
            verbs: &["update"],
            why: "the admission of owner references asks for it; no finalizer is ever set",
        },
        Rule {
            group: "events.k8s.io",
            resource: "events",
            verbs: &["create"],
            why: "one event per transition",
        },
    ];
    rules.extend(Kind::ALL.iter().map(|kind| match kind {
        Kind::Job => Rule {
            group: kind.group(),
            resource: kind.plural(),
            verbs: JOB,
            why: "migrations are made once and removed by their TTL, never by us",
        },
        _ => Rule {
            group: kind.group(),
            resource: kind.plural(),
            verbs: CHILD,
            why: "watched, applied, repaired, and removed when no longer wanted",
        },
    }));
    if watch_secrets {
        rules.push(Rule {
            group: "",
            resource: "secrets",
            verbs: &["list", "watch"],
            why: "metadata only, to tell which Secret is missing; RBAC cannot say so",
        });
    }
    rules
}
