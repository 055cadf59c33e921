//! What comes to a rule: the channels of its inputs.

use std::task::{Context, Poll};

use crate::pipeline::channel::Receiver;
use crate::pipeline::durable::Durable;
use crate::pipeline::feed::Signal;

/// The channels of a rule's inputs, read in turn.
pub(super) struct Inputs {
    /// `None` where the input has ended or closed.
    receivers: Vec<Option<Receiver<Signal>>>,
    n_ended: usize,
    /// Where the next round begins.
    first: usize,
    /// Each waits for its turn.
    in_turn: bool,
}

impl Inputs {
    pub(super) fn new(receivers: Vec<Receiver<Signal>>, in_turn: bool) -> Self {
        Inputs { receivers: receivers.into_iter().map(Some).collect(), n_ended: 0, first: 0, in_turn }
    }

    pub(super) fn is_open(&self) -> bool {
        self.receivers.iter().any(Option::is_some)
    }

    pub(super) fn have_ended(&self) -> bool {
        self.n_ended == self.receivers.len()
    }

    /// The next signal that is there already.
    pub(super) fn take_ready(&mut self) -> Option<(usize, Signal)> {
        if self.in_turn && self.receivers.len() > 1 {
            return None;
        }
        let mut receivers = self.receivers.iter_mut().enumerate();
        receivers.find_map(|(input_idx, receiver)| Some((input_idx, receiver.as_mut()?.try_recv()?)))
    }

    /// Empties the channels and gives the number of rows that were in them.
    pub(super) fn drain_rows(&mut self) -> u64 {
        let mut n_rows = 0;
        for receiver in self.receivers.iter_mut().flatten() {
            while let Some(signal) = receiver.try_recv() {
                if let Signal::Rows { batch, .. } = signal {
                    n_rows += batch.rows.len() as u64;
                }
            }
        }
        n_rows
    }

    pub(super) fn poll(&mut self, durable: Option<&Durable>, cx: &mut Context<'_>) -> Poll<(usize, Option<Signal>)> {
        let n_inputs = self.receivers.len();
        for offset in 0..n_inputs {
            let input_idx = (self.first + offset) % n_inputs;
            if let Some(Some(receiver)) = self.receivers.get_mut(input_idx)
                && durable.is_none_or(|durable| durable.wants(input_idx))
            {
                if let Poll::Ready(signal) = receiver.poll_recv(cx) {
                    self.first = input_idx + 1;
                    return Poll::Ready((input_idx, signal));
                }
                if self.in_turn {
                    return Poll::Pending;
                }
            }
        }
        Poll::Pending
    }

    pub(super) fn end(&mut self, input_idx: usize) {
        self.n_ended += 1;
        self.close(input_idx);
    }

    pub(super) fn close(&mut self, input_idx: usize) {
        if let Some(receiver) = self.receivers.get_mut(input_idx) {
            *receiver = None;
        }
    }
}
