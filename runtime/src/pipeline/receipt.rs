//! Whether what a client pushed has been processed, for clients that wait for that.
//!
//! A receipt travels with the rows: with the batch to each rule, behind their results (as a barrier) to each sink. It is a
//! count of those who have got it and of those who have said that they are done; the outcome is told when the last one lets
//! go of it. So rows that get lost on the way, with a rule that ends or a channel that drops, need no word of their own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use crate::source::{Items, Processed, Reply};

/// One end of it. Clones are the same receipt.
#[derive(Clone, Debug)]
pub struct Receipt(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    replies: Vec<Arc<dyn Reply>>,
    n_given: AtomicUsize,
    n_done: AtomicUsize,
    refusal: OnceLock<String>,
}

impl Receipt {
    /// One for those messages whose senders wait until they are processed; `None` if there are none.
    pub fn of(items: &Items) -> Option<Receipt> {
        let Items::Requests(requests) = items else { return None };
        let waiting = requests.iter().filter(|request| request.reply.waits_for_sinks());
        let replies: Vec<_> = waiting.map(|request| Arc::clone(&request.reply)).collect();
        let shared =
            Shared { replies, n_given: AtomicUsize::new(0), n_done: AtomicUsize::new(0), refusal: OnceLock::new() };
        (!shared.replies.is_empty()).then(|| Receipt(Arc::new(shared)))
    }

    /// A rule or a sink has got it, and is to say when it is done.
    pub fn given(&self) {
        self.0.n_given.fetch_add(1, Ordering::Relaxed);
    }

    /// One that has got it is done.
    pub fn done(&self) {
        self.0.n_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Some of the rows, or of what they caused, will never be taken; the first reason counts.
    pub fn refused(&self, reason: impl FnOnce() -> String) {
        self.0.refusal.get_or_init(reason);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let outcome = match self.refusal.take() {
            Some(reason) => Processed::Refused(reason),
            None if self.n_given.get_mut() == self.n_done.get_mut() => Processed::Taken,
            None => Processed::Lost,
        };
        for reply in &self.replies {
            reply.processed(&outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::format::FormatError;
    use crate::source::{Payload, Request};

    #[derive(Debug, Default)]
    struct Waiting(Mutex<Vec<Processed>>);

    impl Reply for Waiting {
        fn decoded(&self, _: usize) {}

        fn refused(&self, _: &FormatError) {}

        fn waits_for_sinks(&self) -> bool {
            true
        }

        fn processed(&self, outcome: &Processed) {
            self.0.lock().unwrap().push(outcome.clone());
        }
    }

    #[test]
    fn the_outcome_is_told_once_when_all_have_let_go() {
        // What a rule and a sink do with their ends, and what the client hears.
        type Step = fn(Receipt);
        let done: Step = |receipt| receipt.done();
        let lost: Step = drop;
        let refused: Step = |receipt| {
            receipt.refused(|| "sink 0".to_owned());
            receipt.done();
        };
        for (name, steps, expected) in [
            ("nobody had to take it", vec![], Processed::Taken),
            ("both took it", vec![done, done], Processed::Taken),
            ("one ended", vec![done, lost], Processed::Lost),
            ("one refused it", vec![refused, done], Processed::Refused("sink 0".to_owned())),
            ("one refused it, one ended", vec![lost, refused], Processed::Refused("sink 0".to_owned())),
        ] {
            let waiting = Arc::new(Waiting::default());
            let reply = Arc::clone(&waiting) as Arc<dyn Reply>;
            let payload = Payload { bytes: "{}".into(), meta: None };
            let receipt = Receipt::of(&Items::Requests(vec![Request { payload, format: None, reply }])).unwrap();
            for step in steps {
                receipt.given();
                step(receipt.clone());
                assert!(waiting.0.lock().unwrap().is_empty(), "{name}: told too early");
            }
            drop(receipt);
            assert_eq!(*waiting.0.lock().unwrap(), [expected], "{name}");
        }
    }
}
