//! What Flux (kstatus) and Argo CD (its script engine, with our script) say of our objects.

use serde_json::{Value, json};
use sluice_tests::cluster::{argo_health, kstatus};

use super::repository;

fn rule(generation: i64, conditions: &[(&str, &str)]) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(kind, status)| json!({"type": kind, "status": status, "reason": "Some", "message": format!("{kind} is {status}")}))
        .collect();
    json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Rule",
        "metadata": {"name": "r", "namespace": "n", "generation": generation},
        "spec": {}, "status": {"observedGeneration": 2, "conditions": conditions}})
}

#[test]
fn both_say_the_same() {
    let mut new = rule(1, &[]);
    new.as_object_mut().unwrap().remove("status");
    let mut suspended = rule(2, &[("Ready", "True")]);
    suspended["spec"]["suspend"] = json!(true);
    let cases = [
        ("ready", rule(2, &[("Accepted", "True"), ("Ready", "True")]), "Current", "Healthy"),
        ("a newer generation is not seen yet", rule(3, &[("Ready", "True")]), "InProgress", "Progressing"),
        ("waits", rule(2, &[("Ready", "False"), ("Reconciling", "True")]), "InProgress", "Progressing"),
        ("not ready", rule(2, &[("Ready", "False")]), "InProgress", "Progressing"),
        ("unknown", rule(2, &[("Ready", "Unknown")]), "InProgress", "Progressing"),
        ("can't ever be ready", rule(2, &[("Ready", "False"), ("Stalled", "True")]), "Failed", "Degraded"),
        ("no longer stalled", rule(2, &[("Ready", "True"), ("Stalled", "False")]), "Current", "Healthy"),
        // kstatus takes silence for consent: the operator must set a condition at once.
        ("nobody has looked yet", new, "Current", "Progressing"),
        ("suspended", suspended, "Current", "Suspended"),
    ];
    let objects: Vec<Value> = cases.iter().map(|(_, object, ..)| object.clone()).collect();
    let flux = kstatus(&objects).unwrap();
    let argo = argo_health(&repository("deploy/argocd/health.lua"), &objects).unwrap();
    for (((name, _, for_flux, for_argo), flux), argo) in cases.iter().zip(&flux).zip(&argo) {
        assert_eq!((flux.status.as_str(), argo.status.as_str()), (*for_flux, *for_argo), "{name}: {flux:?} {argo:?}");
    }
    assert_eq!(argo[5].message, "Stalled is True", "the message is the condition's");
}

#[test]
fn the_settings_of_argo_cd_hold_the_script() {
    let script = std::fs::read_to_string(repository("deploy/argocd/health.lua")).unwrap();
    let settings = std::fs::read_to_string(repository("deploy/argocd/argocd-cm.yaml")).unwrap();
    let indented: String =
        script.lines().map(|line| if line.is_empty() { "\n".into() } else { format!("    {line}\n") }).collect();
    for kind in ["Stream", "LookupTable", "Rule", "Runtime"] {
        assert!(settings.contains(&format!("health.sluice.dev_{kind}: |\n{indented}")), "{kind}");
    }
}
