//! The life of a rule after it was started: its end, another start, and the times of its schedule.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sluice_sql::Timestamp;

use crate::definition::RuleDef;
use crate::pipeline::Engine;
use crate::pipeline::build::Named;
use crate::pipeline::rule::RuleEnd;
use crate::pipeline::schedule::Phase;
use crate::pipeline::state::State;
use crate::pipeline::status::RuleState;
use crate::state::file_name;

/// A time that is further away is looked at again after this, in case the clock was set or the machine slept.
const MAX_SLEEP: Duration = Duration::from_secs(60);

impl Engine {
    /// A generation's tasks have returned.
    pub(super) fn ended(&self, rule: &str, generation_id: u64, end: RuleEnd) {
        let mut state = self.state();
        let is_stopping = state.is_stopping;
        let now = self.clock().now();
        let mut restart_after = None;
        if let Some(entry) = state.rules.get_mut(rule)
            && let Some(generation) = &mut entry.running
            && generation.id == generation_id
        {
            let subscriptions = std::mem::take(&mut generation.subscriptions);
            let failure = match end {
                RuleEnd::Done => {
                    entry.state = RuleState::Done;
                    None
                }
                RuleEnd::Stopped if is_stopping => {
                    entry.state = RuleState::Stopped;
                    None
                }
                RuleEnd::Stopped => Some("its stream has stopped".to_owned()),
                RuleEnd::Failed(message) => {
                    entry.metrics.errors.report(&message);
                    Some(message)
                }
            };
            if let Some(failure) = failure {
                let policy = &generation.def.restart;
                let ran_for = now.saturating_sub(generation.started_at);
                if u128::try_from(ran_for).is_ok_and(|ran_for| ran_for >= policy.healthy_after.as_millis()) {
                    entry.n_attempts = 0;
                }
                if entry.n_attempts < policy.attempts && !is_stopping {
                    entry.n_attempts += 1;
                    let pause = policy.pause(entry.n_attempts);
                    restart_after = Some(pause);
                    entry.state = RuleState::Restarting;
                    entry.message = Some(format!(
                        "{failure}; starts again in {:.1} s, try {} of {}",
                        pause.as_secs_f64(),
                        entry.n_attempts,
                        policy.attempts
                    ));
                } else {
                    let tries = match entry.n_attempts {
                        0 => String::new(),
                        n => format!("; given up after {n} more tries"),
                    };
                    entry.state = RuleState::Failed;
                    entry.message = Some(format!("{failure}{tries}"));
                }
            }
            if entry.state != RuleState::Restarting {
                entry.tail.close();
            }
            tracing::info!(rule, state = entry.state.as_str(), "rule has ended");
            state.unsubscribe(&subscriptions);
        }
        if let Some(pause) = restart_after {
            self.wake(&mut state, rule, Wait::For(pause));
        }
        drop(state);
        self.note_change();
    }

    /// Has the rule looked at again later. A rule has one such time, the one set last.
    fn wake(&self, state: &mut State, rule: &str, wait: Wait) {
        let Some(entry) = state.rules.get_mut(rule) else { return };
        let wake_id = self.next_id();
        let at = match wait {
            Wait::For(pause) => after(self.clock().now(), pause),
            Wait::Until(at) => at,
        };
        entry.wake = Some((wake_id, at));
        let (engine, rule) = (self.clone(), rule.to_owned());
        self.tracker().spawn(async move {
            tokio::select! {
                biased;
                () = engine.stopping() => {}
                () = wait.over(engine.clock()) => engine.woken(&rule, wake_id),
            }
        });
    }

    fn woken(&self, rule: &str, wake_id: u64) {
        let mut state = self.state();
        let is_stopping = state.is_stopping;
        let Some(entry) = state.rules.get_mut(rule) else { return };
        if is_stopping || entry.wake.is_none_or(|(id, _)| id != wake_id) {
            return;
        }
        entry.wake = None;
        let Some(def) = entry.wanted.clone() else { return };
        if self.follow_schedule(&mut state, &def) {
            self.start_again(state, &def);
        }
        self.note_change();
    }

    /// Starts a rule that has failed, or whose time has come.
    fn start_again(&self, mut state: std::sync::MutexGuard<'_, State>, def: &RuleDef) {
        let Some(named) = state.named.clone() else { return };
        let is_restart = state.rules.get(&def.name).is_some_and(|entry| entry.state == RuleState::Restarting);
        let mut to_start = Vec::new();
        let held_with = def.held_with.as_deref().map(Named::new);
        match self.prepare(&state, def, held_with.as_ref().unwrap_or(&named)) {
            Ok((built, feeds)) => {
                _ = self.start(&mut state, def, built, feeds, &mut to_start);
                if let Some(entry) = state.rules.get_mut(&def.name)
                    && is_restart
                {
                    entry.metrics.restarts.inc();
                }
                tracing::info!(rule = def.name, is_restart, "rule started");
            }
            Err(error) => {
                if let Some(entry) = state.rules.get_mut(&def.name) {
                    entry.state = RuleState::Failed;
                    entry.message = Some(error.to_string());
                    entry.tail.close();
                }
            }
        }
        drop(state);
        self.launch(to_start);
    }

    /// Does what the rule's schedule says of now; true if the rule is to be started. A rule without a schedule always is.
    pub(super) fn follow_schedule(&self, state: &mut State, def: &RuleDef) -> bool {
        let Some(schedule) = &def.schedule else { return true };
        let phase = schedule.phase(self.clock().now());
        let Some(entry) = state.rules.get_mut(&def.name) else { return false };
        match phase {
            Phase::Active { until } => {
                let is_due = matches!(entry.state, RuleState::Scheduled | RuleState::Restarting | RuleState::Stopped);
                if until < i64::MAX {
                    self.wake(state, &def.name, Wait::Until(until));
                }
                is_due
            }
            Phase::Inactive { next } => {
                entry.state = RuleState::Scheduled;
                entry.n_attempts = 0;
                entry.message = next.is_none().then(|| "its schedule has no time left".to_owned());
                entry.tail.close();
                let running = entry.running.take();
                if let Some(generation) = running {
                    self.retire(state, &generation);
                }
                match next {
                    Some(next) => self.wake(state, &def.name, Wait::Until(next)),
                    None => {
                        if let Some(entry) = state.rules.get_mut(&def.name) {
                            entry.wake = None;
                        }
                    }
                }
                false
            }
        }
    }

    /// Says which queues wait for rules that are no longer defined: nobody writes what is in them.
    pub(super) fn warn_of_queues(&self, names: &HashSet<&str>) {
        let Some(state) = &self.settings().state else { return };
        let known: HashSet<String> = names.iter().map(|name| file_name(name)).collect();
        let Ok(folders) = std::fs::read_dir(state.volume().dir().join("queue")) else { return };
        for folder in folders.flatten() {
            let is_known = folder.file_name().to_str().is_some_and(|name| known.contains(name));
            if !is_known && holds_rows(&folder.path()) {
                let path = folder.path();
                tracing::warn!(
                    "{} holds rows for a rule that is not defined; delete it to let them go",
                    path.display()
                );
            }
        }
    }

    fn clock(&self) -> &Arc<dyn crate::time::Clock> {
        &self.settings().clock
    }
}

/// When a rule is looked at again.
#[derive(Clone, Copy)]
enum Wait {
    /// After this, whatever is done to the clock.
    For(Duration),
    /// When the clock shows this.
    Until(Timestamp),
}

impl Wait {
    async fn over(self, clock: &Arc<dyn crate::time::Clock>) {
        let at = match self {
            Wait::For(pause) => return tokio::time::sleep(pause).await,
            Wait::Until(at) => at,
        };
        loop {
            match u64::try_from(at.saturating_sub(clock.now())) {
                Err(_) | Ok(0) => return,
                Ok(wait_ms) => tokio::time::sleep(Duration::from_millis(wait_ms).min(MAX_SLEEP)).await,
            }
        }
    }
}

/// True if a queue in the folder, or in one below it, holds something.
fn holds_rows(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .any(|path| path.extension().is_some_and(|extension| extension == "log") || path.is_dir() && holds_rows(&path))
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(i64::try_from(pause.as_millis()).unwrap_or(i64::MAX))
}

/// True if both texts say the same, whatever their white space and comments.
pub(super) fn is_same_statement(a: &str, b: &str) -> bool {
    let canonical = |text: &str| sluice_sql::sql::parse_statement(text).ok().map(|statement| statement.to_string());
    a == b || canonical(a).is_some_and(|a| canonical(b) == Some(a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_comments_are_not_part_of_a_statement() {
        let cases = [
            ("SELECT a, b FROM s", "select  a,\n b\nFROM s -- all of it", true),
            ("SELECT a FROM s", "SELECT a FROM t", false),
            ("SELECT 'a b' AS x FROM s", "SELECT 'a  b' AS x FROM s", false),
            ("SELECT a FRM s", "SELECT a  FRM s", false),
            ("SELECT a FRM s", "SELECT a FRM s", true),
        ];
        for (a, b, expected) in cases {
            assert_eq!(is_same_statement(a, b), expected, "{a} / {b}");
        }
    }
}
