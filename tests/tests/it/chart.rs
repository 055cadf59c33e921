//! The Helm chart and the kustomizations, rendered by the real programs.

use std::path::PathBuf;
use std::process::Command;

use sluice_tests::cluster::{helm_offline, kubectl_offline, tool};

fn repository(path: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path).display().to_string()
}

/// `helm template` with these settings, without the resource definitions.
fn rendered(set: &[&str]) -> anyhow::Result<String> {
    let chart = repository("charts/sluice");
    let mut args = vec!["template", "sluice", &chart, "--namespace", "sluice-system", "--set", "crds.install=false"];
    for setting in set {
        args.extend(["--set-json", setting]);
    }
    helm_offline(&args)
}

#[test]
fn lint_finds_nothing() {
    let report = helm_offline(&["lint", "--strict", &repository("charts/sluice")]).unwrap();
    assert!(report.contains("0 chart(s) failed"), "{report}");
}

#[test]
fn renders_as_expected() {
    let cases: [(&str, &[&str]); 4] = [
        ("defaults", &[]),
        ("cluster", &[r#"scope="Cluster""#, "operator.replicas=2", r#"webhook.failurePolicy="Fail""#]),
        ("no-webhook", &["webhook.enabled=false", "rbac.aggregate=false", r#"watchNamespaces=["site-b","site-a"]"#]),
        (
            "all-on",
            &[
                r#"image={"registry":"registry.example.com","repository":"edge/sluice","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","pullPolicy":"Always"}"#,
                r#"imagePullSecrets=[{"name":"pull-a"},{"name":"pull-b"}]"#,
                r#"operator.nodeSelector={"kubernetes.io/arch":"arm64"}"#,
                r#"operator.tolerations=[{"operator":"Exists"}]"#,
                r#"operator.priorityClassName="system-cluster-critical""#,
                r#"operator.serviceAccount={"create":false,"name":"own"}"#,
                r#"operator.env=[{"name":"TZ","value":"UTC"}]"#,
                r#"runtime.defaults={"storage":{"size":"1Gi"},"httpPush":{"port":10081}}"#,
                "metrics.serviceMonitor.enabled=true",
                "metrics.prometheusRule.enabled=true",
                "metrics.dashboard.enabled=true",
            ],
        ),
    ];
    for (name, set) in cases {
        insta::assert_snapshot!(format!("chart-{name}"), rendered(set).unwrap());
    }
}

#[test]
fn wrong_values_are_refused() {
    let cases = [
        "operators={}",
        r#"scope="cluster""#,
        r#"watchNamespaces=["Site A"]"#,
        r#"webhook.failurePolicy="fail""#,
        "webhook.timeoutSeconds=60",
        r#"image.digest="sha256:12""#,
        "operator.replicas=-1",
        r#"operator.secretInterval="soon""#,
        "runtime.defaults.replicas=2",
        r#"runtime.defaults.httpPush.serviceType="ExternalName""#,
    ];
    let mut report = String::new();
    for case in cases {
        let refusal = rendered(&[case]).expect_err(case).to_string();
        let lines: Vec<&str> = refusal.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        report.push_str(&format!("{case}\n  {}\n", lines.join("\n  ")));
    }
    insta::assert_snapshot!(report);
}

#[test]
fn the_definitions_of_the_chart_are_kept_and_are_those_of_deploy() {
    let chart = repository("charts/sluice");
    let show = |set: &str| {
        helm_offline(&["template", "sluice", &chart, "--show-only", "templates/crds.yaml", "--set", set]).unwrap()
    };
    for kind in ["lookuptables", "rules", "runtimes", "streams"] {
        let path = format!("sluice.dev_{kind}.yaml");
        let ours = std::fs::read_to_string(repository(&format!("deploy/crds/{path}"))).unwrap();
        assert_eq!(ours, std::fs::read_to_string(repository(&format!("charts/sluice/files/crds/{path}"))).unwrap());
    }
    assert_eq!(show("crds.keep=true").matches("helm.sh/resource-policy: keep").count(), 4);
    assert_eq!(show("crds.keep=false").matches("resource-policy").count(), 0);
}

#[test]
fn the_base_is_the_chart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("operator.yaml");
    let script = repository("deploy/kustomize/render.sh");
    let status = Command::new(&script).arg(&file).env("HELM", tool("helm").unwrap()).status().unwrap();
    assert!(status.success());
    let [now, then] = [file, repository("deploy/kustomize/base/operator.yaml").into()]
        .map(|file| std::fs::read_to_string(file).unwrap());
    assert_eq!(now, then, "the chart has changed: run deploy/kustomize/render.sh");
}

#[test]
fn overlays_change_what_they_say() {
    let base = kubectl_offline(&["kustomize", &repository("deploy/kustomize/base")]).unwrap();
    for overlay in ["cluster", "edge"] {
        let built =
            kubectl_offline(&["kustomize", &repository(&format!("deploy/kustomize/overlays/{overlay}"))]).unwrap();
        insta::assert_snapshot!(format!("kustomize-{overlay}"), changed_lines(&base, &built));
    }
}

/// Lines that only one of two texts has, with their sign.
fn changed_lines(old: &str, new: &str) -> String {
    let only = |sign: &str, these: &str, those: &str| -> String {
        let mut rest: Vec<&str> = those.lines().collect();
        let mut report = String::new();
        for line in these.lines() {
            match rest.iter().position(|other| *other == line) {
                Some(at) => drop(rest.remove(at)),
                None => report.push_str(&format!("{sign}{line}\n")),
            }
        }
        report
    };
    only("-", old, new) + &only("+", new, old)
}
