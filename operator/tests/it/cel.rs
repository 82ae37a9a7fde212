//! What a user reads when a manifest is refused: each rule's sentence, as `kubectl apply` prints it.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::support::{FULL, MINIMAL, World};

fn manifest(text: &str, change: &Value) -> Result<String> {
    let mut manifest: Value = serde_yaml_ng::from_str(text)?;
    merge(&mut manifest, change);
    Ok(manifest.to_string())
}

/// JSON merge patch: null removes.
fn merge(into: &mut Value, change: &Value) {
    let Value::Object(change) = change else {
        *into = change.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    if let Some(into) = into.as_object_mut() {
        for (key, value) in change {
            if value.is_null() {
                into.remove(key);
            } else {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

/// Change of the full sample, and the sentence that refuses it.
fn refused() -> Vec<(Value, &'static str)> {
    let spec = |change: Value| json!({"spec": change});
    vec![
        (
            json!({"metadata": {"name": "a".repeat(41)}}),
            "metadata.name: at most 40 characters, child names add up to 17",
        ),
        (
            json!({"metadata": {"name": "1a"}}),
            "metadata.name: start with a letter, then only a-z, 0-9 and '-'",
        ),
        (
            json!({"metadata": {"name": "a.b"}}),
            "metadata.name: start with a letter, then only a-z, 0-9 and '-'",
        ),
        (
            spec(json!({"maxQuoteAgeSeconds": 299})),
            "maxQuoteAgeSeconds must not be below refresher.intervalSeconds",
        ),
        (
            spec(json!({"priceTolerancePercent": "100"})),
            "must be a decimal from 0 to 99.9999 with at most four decimals",
        ),
        (
            spec(json!({"priceTolerancePercent": "2%"})),
            "must be a decimal from 0 to 99.9999 with at most four decimals",
        ),
        (
            spec(json!({"image": {"tag": null}})),
            "set exactly one of tag and digest",
        ),
        (
            spec(json!({"image": {"digest": format!("sha256:{}", "0".repeat(64))}})),
            "set exactly one of tag and digest",
        ),
        (
            spec(json!({"vendor": {"baseUrl": "http://vendor.example.com"}})),
            "baseUrl must be https without user or query; http needs allowHttp",
        ),
        (
            spec(json!({"vendor": {"baseUrl": "https://me@vendor.example.com"}})),
            "baseUrl must be https without user or query; http needs allowHttp",
        ),
        (
            spec(json!({"vendor": {"baseUrl": "https://vendor.example.com?x=1"}})),
            "baseUrl must be https without user or query; http needs allowHttp",
        ),
        (
            spec(json!({"database": {"migrationUrl": {"secretName": "database"}}})),
            "migrationUrl must name another key than url: it is of another role",
        ),
        (
            spec(json!({"api": {"disruption": {"maxUnavailable": null, "minAvailable": 3}}})),
            "disruption.minAvailable must be below the replica count, or drains never finish",
        ),
        (
            spec(
                json!({"api": {"autoscaling": null, "replicas": 2, "disruption": {"maxUnavailable": null, "minAvailable": 2}}}),
            ),
            "disruption.minAvailable must be below the replica count, or drains never finish",
        ),
        (
            spec(json!({"api": {"autoscaling": {"minReplicas": 13}}})),
            "minReplicas must not exceed maxReplicas",
        ),
        (
            spec(json!({"api": {"disruption": {"minAvailable": 1}}})),
            "set exactly one of minAvailable and maxUnavailable",
        ),
        (
            spec(json!({"report": {"schedule": "TZ=UTC 59 23 * * *"}})),
            "schedule must not contain TZ=; set timeZone",
        ),
        (
            spec(json!({"report": {"timeZone": "Local"}})),
            "must be an IANA name such as Etc/UTC",
        ),
        (
            spec(json!({"report": {"timeZone": "Etc UTC"}})),
            "must be an IANA name such as Etc/UTC",
        ),
        (
            spec(json!({"report": {"delivery": {"ses": {"region": "us-east-1"}}}})),
            "set exactly one of ses and smtp",
        ),
        (
            spec(json!({"report": {"delivery": {"smtp": null}}})),
            "set exactly one of ses and smtp",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rule_says_its_sentence() -> Result<()> {
    let world = World::new().await?;
    for (change, sentence) in refused() {
        let error = world
            .kubectl_apply(&manifest(FULL, &change)?)
            .err()
            .with_context(|| format!("taken: {change}"))?;
        let error = format!("{error:#}");
        assert!(error.contains(sentence), "{change}: {error}");
    }
    assert!(world.services().list(&Default::default()).await?.items.is_empty());
    Ok(())
}

/// No rule without a case above: sentences are collected from the definition itself.
#[test]
fn no_rule_is_forgotten() -> Result<()> {
    fn collect(value: &Value, sentences: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let rules = map
                    .get("x-kubernetes-validations")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                sentences.extend(rules.filter_map(|rule| rule["message"].as_str().map(str::to_owned)));
                map.values().for_each(|value| collect(value, sentences));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, sentences)),
            _ => {}
        }
    }
    let mut sentences = Vec::new();
    collect(&serde_json::to_value(fuse_crds::crd()?)?, &mut sentences);
    assert_eq!(
        sentences.len(),
        14,
        "the rules of the reference, one of them on change"
    );
    let tested: Vec<&str> = refused()
        .iter()
        .map(|(_, sentence)| *sentence)
        .chain(["tablePrefix is immutable"])
        .collect();
    for sentence in sentences {
        assert!(tested.contains(&sentence.as_str()), "{sentence}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_right_is_taken() -> Result<()> {
    let world = World::new().await?;
    let longest = "a".repeat(40);
    for change in [
        json!({}),
        json!({"metadata": {"name": longest}}),
        json!({"spec": {"vendor": {"baseUrl": "http://10.88.0.1:8080/vendor", "allowHttp": true}}}),
        json!({"spec": {"image": {"tag": null, "digest": format!("sha256:{}", "0".repeat(64))}}}),
        json!({"spec": {"priceTolerancePercent": "99.9999"}}),
        json!({"spec": {"api": {"disruption": {"maxUnavailable": null, "minAvailable": 2}}}}),
        json!({"spec": {"report": {"delivery": {"smtp": null, "ses": {"region": "us-east-1"}}}}}),
        json!({"spec": {"report": null, "redis": null}}),
    ] {
        world
            .kubectl_apply(&manifest(FULL, &change)?)
            .with_context(|| change.to_string())?;
    }
    world.kubectl_apply(&manifest(MINIMAL, &json!({"metadata": {"name": "minimal"}}))?)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_prefix_cannot_change() -> Result<()> {
    let world = World::new().await?;
    world.kubectl_apply(MINIMAL)?;
    let changed = manifest(MINIMAL, &json!({"spec": {"dynamodb": {"tablePrefix": "other"}}}))?;
    let error = world.kubectl_apply(&changed).err().context("taken")?;
    assert!(
        format!("{error:#}").contains("tablePrefix is immutable"),
        "{error:#}"
    );
    let removed = manifest(MINIMAL, &json!({"spec": {"dynamodb": {"tablePrefix": null}}}))?;
    let error = world.kubectl_apply(&removed).err().context("taken")?;
    assert!(
        format!("{error:#}").contains("spec.dynamodb.tablePrefix: Required value"),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_and_limits_are_refused() -> Result<()> {
    let world = World::new().await?;
    for (change, sentence) in [
        (
            json!({"spec": {"api": {"replica": 3}}}),
            "field not declared in schema",
        ),
        (
            json!({"spec": {"api": {"replicas": 0}}}),
            "should be greater than or equal to 1",
        ),
        (
            json!({"spec": {"database": {"port": 70000}}}),
            "should be less than or equal to 65535",
        ),
        (
            json!({"spec": {"report": {"recipients": []}}}),
            "should have at least 1 items",
        ),
        (
            json!({"spec": {"dynamodb": {"tablePrefix": "ab"}}}),
            "should be at least 3 chars long",
        ),
        (
            json!({"spec": {"api": {"resources": {"requests": {"cpu": "much"}}}}}),
            "should match",
        ),
    ] {
        let error = world
            .kubectl_apply(&manifest(FULL, &change)?)
            .err()
            .with_context(|| format!("taken: {change}"))?;
        assert!(format!("{error:#}").contains(sentence), "{change}: {error:#}");
    }
    Ok(())
}

/// The sample in the documentation is a manifest that works.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_sample_is_taken() -> Result<()> {
    let world = World::new().await?;
    let text = include_str!("../../../docs/resource.md");
    let sample = text
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .context("a YAML block")?;
    let mut sample: Value = serde_yaml_ng::from_str(sample)?;
    merge(&mut sample, &json!({"metadata": {"namespace": null}}));
    world.kubectl_apply(&sample.to_string())?;
    Ok(())
}
