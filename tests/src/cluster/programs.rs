//! The programs that users have: `kubectl`, `helm`; and what Flux and Argo CD would say.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::Cluster;
use crate::services::cache;

/// The folder of the programs that `tests/run` builds.
pub(super) fn folder() -> Result<PathBuf> {
    let folder = cache().join("cluster/bin");
    ensure!(
        folder.join("kube-apiserver").exists(),
        "no Kubernetes in {}: run `tests/run`, which builds it once (about ten minutes), or leave the cluster out with \
         `tests/run --without cluster`",
        folder.display()
    );
    Ok(folder)
}

impl Cluster {
    /// Runs `kubectl` as administrator and gives what it printed.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn kubectl(&self, args: &[&str]) -> Result<String> {
        self.kubectl_with(args, None)
    }

    /// The same, with something on its standard input (`-f -`).
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn kubectl_with(&self, args: &[&str], input: Option<&str>) -> Result<String> {
        output(self.program("kubectl")?.args(args), input)
    }

    /// `kubectl apply -n NAMESPACE -f -` of a text.
    ///
    /// # Errors
    /// When something of it is refused.
    pub fn apply(&self, namespace: &str, yaml: &str) -> Result<String> {
        self.kubectl_with(&["apply", "-n", namespace, "-f", "-"], Some(yaml))
    }

    /// Runs `helm` as administrator, with a home of its own.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub fn helm(&self, args: &[&str]) -> Result<String> {
        output(self.program("helm")?.args(args), None)
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// When it is there already.
    pub fn namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&["create", "namespace", name])?;
        Ok(())
    }

    fn program(&self, name: &str) -> Result<Command> {
        let mut command = Command::new(folder()?.join(name));
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", self.home.path());
        Ok(command)
    }
}

/// Runs `helm` without any cluster: `template`, `lint`.
///
/// # Errors
/// When it fails, with what it said.
pub fn helm_offline(args: &[&str]) -> Result<String> {
    output(Command::new(folder()?.join("helm")).args(args).env("KUBECONFIG", "/dev/null"), None)
}

/// Runs `kubectl` without any cluster: `kustomize`.
///
/// # Errors
/// When it fails, with what it said.
pub fn kubectl_offline(args: &[&str]) -> Result<String> {
    output(Command::new(folder()?.join("kubectl")).args(args).env("KUBECONFIG", "/dev/null"), None)
}

/// Where one of the programs is.
///
/// # Errors
/// When they are not built, and says how to.
pub fn tool(name: &str) -> Result<PathBuf> {
    Ok(folder()?.join(name))
}

/// What a status library says of an object.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// kstatus: Current, InProgress, Failed, Terminating. Argo CD: Healthy, Progressing, Degraded, Suspended, Missing, Unknown.
    pub status: String,
    /// Why.
    pub message: String,
}

/// What the kstatus library says of these objects, in their order: what Flux goes by.
///
/// # Errors
/// When the program fails.
pub fn kstatus(objects: &[Value]) -> Result<Vec<Verdict>> {
    verdicts(&mut Command::new(folder()?.join("kstatus")), objects)
}

/// What Argo CD says of these objects by a health script.
///
/// # Errors
/// When the script fails, with what its engine says.
pub fn argo_health(script: &Path, objects: &[Value]) -> Result<Vec<Verdict>> {
    verdicts(Command::new(folder()?.join("argo-health")).arg(script), objects)
}

fn verdicts(command: &mut Command, objects: &[Value]) -> Result<Vec<Verdict>> {
    let input: String = objects.iter().map(|object| format!("{object}\n")).collect();
    output(command, Some(&input))?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Runs a command to its end and gives its standard output.
pub(super) fn output(command: &mut Command, input: Option<&str>) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().with_context(|| format!("starting {name}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).ok();
    }
    let output = child.wait_with_output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), printed);
    Ok(printed.into_owned())
}
