//! The audit log: who asked what, and whether it was allowed.

use std::path::Path;

use anyhow::Result;
use serde_json::Value;

/// One request of a service account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// API group; empty for the core.
    pub group: String,
    /// Resource, with its subresource: `rules/status`. A path for what is no resource.
    pub resource: String,
    /// Namespace; empty for what has none.
    pub namespace: String,
    /// Name; empty for lists.
    pub name: String,
    /// False if RBAC refused it.
    pub allowed: bool,
    /// The HTTP status of the answer.
    pub code: i64,
}

/// Reads the requests of a log, watches once each.
pub(super) fn read(log: &Path) -> Result<Vec<Request>> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let mut requests = Vec::new();
    for line in text.lines() {
        // The last line may be in the middle of being written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        if event["stage"] != "ResponseComplete" && event["stage"] != "ResponseStarted" {
            continue;
        }
        let field = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let subresource = field("/objectRef/subresource");
        let mut resource = field("/objectRef/resource");
        if resource.is_empty() {
            resource = field("/requestURI");
        } else if !subresource.is_empty() {
            resource = format!("{resource}/{subresource}");
        }
        let request = Request {
            user: field("/user/username"),
            verb: field("/verb"),
            group: field("/objectRef/apiGroup"),
            resource,
            namespace: field("/objectRef/namespace"),
            name: field("/objectRef/name"),
            allowed: event["annotations"]["authorization.k8s.io/decision"] != "forbid",
            code: event["responseStatus"]["code"].as_i64().unwrap_or_default(),
        };
        // A watch is reported when it starts and when it ends.
        if request.verb != "watch" || event["stage"] == "ResponseStarted" || !request.allowed {
            requests.push(request);
        }
    }
    Ok(requests)
}
