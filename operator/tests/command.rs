//! The command as a user starts it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

use std::process::Command;

fn run(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-operator"));
    let output =
        command.args(args).env("KUBECONFIG", "/nowhere").env_remove("KUBERNETES_SERVICE_HOST").output().unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn mistakes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let defaults = folder.path().join("runtime.yaml");
    std::fs::write(&defaults, "resources: {}\nimagee: x\n").unwrap();
    let defaults = defaults.display().to_string();
    for (args, expected) in [
        (&[][..], "--runtime-image <IMAGE>"),
        (&["--runtime-image=i", "--log-level=a=b=c"], "--log-level"),
        (&["--runtime-image=i", "--runtime-defaults", &defaults], "did you mean \"image\"?"),
        (&["--runtime-image=i"], "no cluster"),
    ] {
        let (code, printed) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {printed}");
        assert!(printed.contains(expected), "{args:?}: {printed}");
    }
}
