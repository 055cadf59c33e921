//! Which stream or sink a path belongs to: patterns with variables, in a tree of segments.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smol_str::SmolStr;

use super::Handler;
use super::hub::Hub;

/// A path whose last stream has just gone is answered with "come back soon" for this long: a stream that is replaced is
/// there again at once.
const GONE_FOR: Duration = Duration::from_secs(3);

/// A path with variables: `/api/{site}/data`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    Variable(SmolStr),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("\"{text}\" is no path: it must begin with /"));
        };
        if let Some(sign) = rest.chars().find(|c| matches!(c, '?' | '#') || c.is_whitespace() || c.is_control()) {
            return Err(format!("a path can't hold {sign:?}"));
        }
        let mut segments = Vec::new();
        for part in rest.split('/') {
            let segment = match part.strip_prefix('{').map(|part| part.strip_suffix('}')) {
                None if part.contains(['{', '}']) => {
                    return Err(format!(
                        "\"{part}\": a variable takes a whole segment of the path, as in /api/{{site}}/data"
                    ));
                }
                None => {
                    let literal = decode(part).ok_or_else(|| format!("\"{part}\" is not UTF-8 when it is decoded"))?;
                    Segment::Literal(literal.into())
                }
                Some(Some(name)) if is_name(name) => {
                    let segment = Segment::Variable(name.into());
                    if segments.contains(&segment) {
                        return Err(format!("the variable {{{name}}} is there twice"));
                    }
                    segment
                }
                Some(_) => {
                    return Err(format!(
                        "\"{part}\": a variable is written {{name}}, with letters, digits and _ in its name"
                    ));
                }
            };
            segments.push(segment);
        }
        Ok(Pattern(segments))
    }

    /// The names of its variables, in order.
    fn names(&self) -> Arc<[SmolStr]> {
        let name = |segment: &Segment| match segment {
            Segment::Variable(name) => Some(name.clone()),
            Segment::Literal(_) => None,
        };
        self.0.iter().filter_map(name).collect()
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A segment without its `%xx`; `None` if that is not UTF-8.
fn decode(segment: &str) -> Option<String> {
    percent_encoding::percent_decode_str(segment).decode_utf8().ok().map(Into::into)
}

/// All registered paths.
#[derive(Default)]
pub(super) struct Routes {
    root: Node,
    n_gone: usize,
}

#[derive(Default)]
struct Node {
    literals: HashMap<Box<str>, Node>,
    variable: Option<Box<Node>>,
    entry: Option<Entry>,
}

#[derive(Default)]
struct Entry {
    routes: Vec<Route>,
    hub: Arc<Hub>,
    gone_at: Option<Instant>,
}

impl Entry {
    /// Web sockets follow the routes: what clients send goes to the sources that are there.
    fn sync_hub(&self) {
        let mut has_sockets = false;
        let mut queues = Vec::new();
        for route in &self.routes {
            if let Handler::Socket(socket) = &route.handler {
                has_sockets = true;
                queues.extend(socket.incoming.clone());
            }
        }
        self.hub.set_queues(queues);
        if !has_sockets {
            self.hub.close();
        }
    }
}

/// One stream or sink on a path.
#[derive(Clone)]
pub(super) struct Route {
    pub id: u64,
    /// The stream or sink: what it registers again takes the place of what it had.
    pub owner: Arc<str>,
    pub names: Arc<[SmolStr]>,
    pub handler: Handler,
}

/// What is on a path.
pub(super) enum Found {
    /// These.
    Routes {
        routes: Vec<Route>,
        hub: Arc<Hub>,
        /// Values of the path's variables, in order.
        values: Vec<String>,
    },
    /// Nothing, since a moment ago.
    Gone,
}

impl Routes {
    /// Puts a route on a path, in place of the owner's other one of that kind.
    pub fn insert(&mut self, pattern: &Pattern, id: u64, owner: Arc<str>, handler: Handler) -> Arc<Hub> {
        self.prune();
        let mut node = &mut self.root;
        for segment in &pattern.0 {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Variable(_) => node.variable.get_or_insert_default(),
            };
        }
        let entry = node.entry.get_or_insert_default();
        if entry.gone_at.take().is_some() {
            self.n_gone -= 1;
        }
        entry.routes.retain(|route| route.owner != owner || !route.handler.is_same_kind(&handler));
        entry.routes.push(Route { id, owner, names: pattern.names(), handler });
        entry.sync_hub();
        Arc::clone(&entry.hub)
    }

    /// Takes a route off its path.
    pub fn remove(&mut self, pattern: &Pattern, id: u64) {
        let mut node = &mut self.root;
        for segment in &pattern.0 {
            let child = match segment {
                Segment::Literal(text) => node.literals.get_mut(text),
                Segment::Variable(_) => node.variable.as_deref_mut(),
            };
            let Some(child) = child else { return };
            node = child;
        }
        let Some(entry) = &mut node.entry else { return };
        let n_before = entry.routes.len();
        entry.routes.retain(|route| route.id != id);
        if entry.routes.len() == n_before {
            return;
        }
        entry.sync_hub();
        if entry.routes.is_empty() {
            entry.gone_at = Some(Instant::now());
            self.n_gone += 1;
        }
        self.prune();
    }

    /// What is on `path`. A literal segment comes before a variable.
    pub fn find(&self, path: &str) -> Option<Found> {
        let segments: Option<Vec<String>> = path.strip_prefix('/')?.split('/').map(decode).collect();
        let segments = segments?;
        let mut values = Vec::new();
        let entry = self.root.find(&segments, &mut values)?;
        match entry.gone_at {
            Some(gone_at) => (gone_at.elapsed() < GONE_FOR).then_some(Found::Gone),
            None => Some(Found::Routes { routes: entry.routes.clone(), hub: Arc::clone(&entry.hub), values }),
        }
    }

    /// Forgets paths that have been empty for long enough.
    fn prune(&mut self) {
        if self.n_gone > 0 {
            let n_forgotten = self.root.prune();
            self.n_gone -= n_forgotten;
        }
    }
}

impl Node {
    fn find(&self, segments: &[String], values: &mut Vec<String>) -> Option<&Entry> {
        let Some((first, rest)) = segments.split_first() else { return self.entry.as_ref() };
        if let Some(entry) = self.literals.get(first.as_str()).and_then(|child| child.find(rest, values)) {
            return Some(entry);
        }
        let n_before = values.len();
        values.push(first.clone());
        // A variable is never empty: `/api//data` is not `/api/{site}/data`.
        let entry = self.variable.as_ref().filter(|_| !first.is_empty()).and_then(|child| child.find(rest, values));
        if entry.is_none() {
            values.truncate(n_before);
        }
        entry
    }

    fn prune(&mut self) -> usize {
        let mut n_forgotten = 0;
        if self.entry.as_ref().and_then(|entry| entry.gone_at).is_some_and(|gone_at| gone_at.elapsed() >= GONE_FOR) {
            self.entry = None;
            n_forgotten += 1;
        }
        let mut keep = |child: &mut Node| {
            n_forgotten += child.prune();
            child.entry.is_some() || child.variable.is_some() || !child.literals.is_empty()
        };
        self.literals.retain(|_, child| keep(child));
        if !self.variable.as_deref_mut().is_none_or(keep) {
            self.variable = None;
        }
        n_forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::super::events::Events;
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    fn handler() -> Handler {
        Handler::Events(Arc::new(Events::default()))
    }

    /// `id(name=value,...)` of each route.
    fn find(routes: &Routes, path: &str) -> String {
        match routes.find(path) {
            None => "none".to_owned(),
            Some(Found::Gone) => "gone".to_owned(),
            Some(Found::Routes { routes, values, .. }) => {
                let show = |route: &Route| {
                    let pairs = route.names.iter().zip(&values).map(|(name, value)| format!("{name}={value}"));
                    format!("{}({})", route.id, pairs.collect::<Vec<_>>().join(","))
                };
                routes.iter().map(show).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn paths_find_their_streams() {
        let mut routes = Routes::default();
        for (id, text) in [
            (1, "/api/data"),
            (2, "/api/{site}/data"),
            (3, "/api/{plant}/data"),
            (4, "/api/{site}/{line}"),
            (5, "/"),
            (6, "/a%20b/{x}"),
            (7, "/api/special/x"),
        ] {
            routes.insert(&pattern(text), id, format!("owner {id}").into(), handler());
        }
        for (path, expected) in [
            ("/api/data", "1()"),
            ("/api/north/data", "2(site=north) 3(plant=north)"),
            ("/api/north/l1", "4(site=north,line=l1)"),
            // A literal that leads nowhere does not hide the variable.
            ("/api/special/data", "2(site=special) 3(plant=special)"),
            ("/", "5()"),
            ("/a b/c%2Fd%C3%A4", "6(x=c/dä)"),
            ("/a%20b/%ff", "none"),
            ("/api//data", "none"),
            ("/api/data/", "none"),
            ("/API/data", "none"),
            ("api/data", "none"),
            ("", "none"),
        ] {
            assert_eq!(find(&routes, path), expected, "{path}");
        }
    }

    #[test]
    fn what_registers_again_takes_its_own_place() {
        let mut routes = Routes::default();
        let path = pattern("/a/{b}");
        routes.insert(&path, 1, "one".into(), handler());
        routes.insert(&path, 2, "two".into(), handler());
        routes.insert(&path, 3, "one".into(), handler());
        assert_eq!(find(&routes, "/a/x"), "2(b=x) 3(b=x)");
        routes.remove(&path, 1);
        routes.remove(&path, 2);
        assert_eq!(find(&routes, "/a/x"), "3(b=x)");
        routes.remove(&path, 3);
        assert_eq!(find(&routes, "/a/x"), "gone");
        routes.insert(&path, 4, "one".into(), handler());
        assert_eq!(find(&routes, "/a/x"), "4(b=x)");
        routes.remove(&path, 4);
        if let Some(entry) = routes.root.literals.get_mut("a").and_then(|node| node.variable.as_mut()?.entry.as_mut()) {
            entry.gone_at = Instant::now().checked_sub(GONE_FOR);
        }
        assert_eq!(find(&routes, "/a/x"), "none");
        routes.prune();
        assert!(routes.root.literals.is_empty());
        assert_eq!(routes.n_gone, 0);
    }

    #[test]
    fn patterns_that_do_not_fit() {
        for (text, expected) in [
            ("api", "\"api\" is no path: it must begin with /"),
            ("/a?b", "a path can't hold '?'"),
            ("/a b", "a path can't hold ' '"),
            ("/a/x{b}", "\"x{b}\": a variable takes a whole segment"),
            ("/a/{b", "\"{b\": a variable is written {name}"),
            ("/a/{}", "\"{}\": a variable is written {name}"),
            ("/{a}/{a}", "the variable {a} is there twice"),
            ("/%ff", "\"%ff\" is not UTF-8"),
        ] {
            let message = Pattern::parse(text).unwrap_err();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}
