//! The bounded channels between feeds, rules and sinks, and what happens to rows that find one full.
//!
//! Like tokio's, but for two things: a channel knows the memory that waits in it, and it may make room by dropping the oldest
//! or the newest rows, if the rule says so. Only rows are ever dropped: what steers (an end, a barrier) always gets in.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::sync::Notify;
use tokio::task::coop;

use crate::pipeline::memory::Memory;

/// What a full channel does with rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The sender waits.
    #[default]
    Block,
    /// Those that have waited longest go.
    DropOldest,
    /// Those that come do not get in.
    DropNewest,
}

/// What waits in a channel, or is dropped from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Rows.
    pub rows: u64,
    /// Bytes of memory, as an estimate.
    pub bytes: u64,
}

/// What goes through a channel.
pub trait Travels: Send + 'static {
    /// The rows that it carries; `None` for what steers and must never be dropped.
    fn load(&self) -> Option<Load>;
}

/// How much a channel takes.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Items.
    pub items: usize,
    /// Bytes of rows. One item always gets in, however large.
    pub bytes: u64,
    /// What happens when it is full.
    pub overflow: Overflow,
    /// Where its bytes are counted; while the whole is used up, each channel takes one item at a time.
    pub memory: Arc<Memory>,
}

impl Limits {
    /// A channel that holds so many items, whatever their size, and blocks.
    pub fn of_items(items: usize) -> Self {
        Limits { items, bytes: u64::MAX, overflow: Overflow::Block, memory: Arc::default() }
    }
}

/// Hears how many rows were dropped.
type OnDrop = Box<dyn Fn(u64) + Send + Sync>;

/// A channel; `on_drop` hears how many rows were dropped to make room.
pub fn channel<T: Travels>(limits: Limits, on_drop: impl Fn(u64) + Send + Sync + 'static) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        limits: Limits { items: limits.items.max(1), ..limits },
        state: Mutex::new(State { queue: VecDeque::new(), n_senders: 1, is_closed: false, receiver: None }),
        n_items: AtomicU64::new(0),
        n_bytes: AtomicU64::new(0),
        room: Notify::new(),
        on_drop: Box::new(on_drop),
    });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

struct Shared<T> {
    limits: Limits,
    state: Mutex<State<T>>,
    /// Copies of what `state` holds, to look at without the lock.
    n_items: AtomicU64,
    n_bytes: AtomicU64,
    room: Notify,
    on_drop: OnDrop,
}

struct State<T> {
    queue: VecDeque<(T, Option<Load>)>,
    n_senders: usize,
    /// The receiver is gone.
    is_closed: bool,
    receiver: Option<Waker>,
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self, state: &State<T>) -> bool {
        let n_items = state.queue.len();
        let n_bytes = self.n_bytes.load(Ordering::Relaxed);
        n_items >= self.limits.items || n_items > 0 && (n_bytes >= self.limits.bytes || self.limits.memory.is_used_up())
    }

    fn count_in(&self, load: Option<Load>) {
        self.n_items.fetch_add(1, Ordering::Relaxed);
        if let Some(Load { bytes, .. }) = load {
            self.n_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.limits.memory.add(bytes);
        }
    }

    fn count_out(&self, load: Option<Load>) {
        self.n_items.fetch_sub(1, Ordering::Relaxed);
        if let Some(Load { bytes, .. }) = load {
            self.n_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.limits.memory.sub(bytes);
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        self.limits.memory.sub(*self.n_bytes.get_mut());
    }
}

/// Why an item did not get in.
#[derive(Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// There is no room, and the channel blocks.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

/// The end that rows go into. Clones are the same end.
pub struct Sender<T: Travels>(Arc<Shared<T>>);

impl<T: Travels> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state().n_senders += 1;
        Sender(Arc::clone(&self.0))
    }
}

impl<T: Travels> Drop for Sender<T> {
    fn drop(&mut self) {
        let receiver = {
            let mut state = self.0.state();
            state.n_senders -= 1;
            if state.n_senders == 0 { state.receiver.take() } else { None }
        };
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

impl<T: Travels> std::fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("n_items", &self.0.n_items).finish_non_exhaustive()
    }
}

impl<T: Travels> Sender<T> {
    /// Puts an item in, or drops rows as the channel was told to.
    ///
    /// # Errors
    /// There is no room, or nobody to receive it.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let shared = &*self.0;
        let load = item.load();
        let mut n_dropped = 0;
        let receiver = {
            let mut state = shared.state();
            if state.is_closed {
                return Err(TrySendError::Closed(item));
            }
            if shared.is_full(&state) {
                match shared.limits.overflow {
                    Overflow::Block => return Err(TrySendError::Full(item)),
                    Overflow::DropNewest => {
                        if let Some(Load { rows, .. }) = load {
                            drop(state);
                            (shared.on_drop)(rows);
                            return Ok(());
                        }
                    }
                    Overflow::DropOldest => {
                        while shared.is_full(&state) {
                            let Some(oldest) = state.queue.iter().position(|(_, load)| load.is_some()) else { break };
                            let Some((_, load)) = state.queue.remove(oldest) else { break };
                            shared.count_out(load);
                            n_dropped += load.map_or(0, |load| load.rows);
                        }
                    }
                }
            }
            shared.count_in(load);
            state.queue.push_back((item, load));
            state.receiver.take()
        };
        if n_dropped > 0 {
            (shared.on_drop)(n_dropped);
        }
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        Ok(())
    }

    /// Puts an item in, and waits for room if the channel blocks. Cancel-safe: the item is in when it returns `Ok`.
    ///
    /// # Errors
    /// The receiver is gone.
    pub async fn send(&self, mut item: T) -> Result<(), T> {
        loop {
            match self.try_send(item) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(item)) => return Err(item),
                Err(TrySendError::Full(back)) => item = back,
            }
            self.room().await;
        }
    }

    /// Waits until there is room, or nobody to receive.
    pub async fn room(&self) {
        loop {
            let mut room = std::pin::pin!(self.0.room.notified());
            room.as_mut().enable();
            {
                let state = self.0.state();
                if state.is_closed || !self.0.is_full(&state) {
                    return;
                }
            }
            room.await;
        }
    }

    /// Shows how full the channel is, without keeping it open.
    pub fn depth(&self) -> Depth {
        let shared = Arc::downgrade(&self.0);
        Depth {
            capacity: self.0.limits.items,
            max_bytes: self.0.limits.bytes,
            look: Box::new(move || {
                shared.upgrade().map_or((0, 0), |shared| {
                    (shared.n_items.load(Ordering::Relaxed), shared.n_bytes.load(Ordering::Relaxed))
                })
            }),
        }
    }
}

/// How full a channel is.
pub struct Depth {
    capacity: usize,
    max_bytes: u64,
    look: Box<dyn Fn() -> (u64, u64) + Send + Sync>,
}

impl Depth {
    /// True if it takes nothing more now.
    pub fn is_full(&self) -> bool {
        let (n_items, n_bytes) = self.now();
        n_items >= self.capacity as u64 || n_items > 0 && n_bytes >= self.max_bytes
    }

    /// Items, and bytes of the rows in them.
    pub fn now(&self) -> (u64, u64) {
        (self.look)()
    }
}

/// The end that rows come out of.
pub struct Receiver<T: Travels>(Arc<Shared<T>>);

impl<T: Travels> Drop for Receiver<T> {
    fn drop(&mut self) {
        let rest = {
            let mut state = self.0.state();
            state.is_closed = true;
            std::mem::take(&mut state.queue)
        };
        for (_, load) in &rest {
            self.0.count_out(*load);
        }
        self.0.room.notify_waiters();
    }
}

impl<T: Travels> Receiver<T> {
    /// The next item; `None` when all senders are gone and nothing is left.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        // A task that always finds something must let others run, too.
        let coop = ready!(coop::poll_proceed(cx));
        let popped = {
            let mut state = self.0.state();
            match state.queue.pop_front() {
                Some(popped) => popped,
                None if state.n_senders == 0 => return Poll::Ready(None),
                None => {
                    state.receiver = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        coop.made_progress();
        Poll::Ready(Some(self.took(popped)))
    }

    /// The next item; `None` when all senders are gone and nothing is left. Cancel-safe.
    pub async fn recv(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Waits for something and appends it and what has come with it, up to `limit` items; gives their number, 0 when all
    /// senders are gone and nothing is left. Cancel-safe.
    pub async fn recv_many(&mut self, items: &mut Vec<T>, limit: usize) -> usize {
        let Some(first) = self.recv().await else { return 0 };
        items.push(first);
        let mut n_items = 1;
        while n_items < limit
            && let Some(item) = self.try_recv()
        {
            items.push(item);
            n_items += 1;
        }
        n_items
    }

    /// The next item, if there is one.
    pub fn try_recv(&mut self) -> Option<T> {
        let popped = self.0.state().queue.pop_front()?;
        Some(self.took(popped))
    }

    fn took(&self, (item, load): (T, Option<Load>)) -> T {
        self.0.count_out(load);
        self.0.room.notify_waiters();
        item
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    use super::*;

    /// Rows with a number, or a mark that steers.
    #[derive(Debug, PartialEq, Eq)]
    enum Item {
        Rows(u64, u64),
        Mark,
    }

    impl Travels for Item {
        fn load(&self) -> Option<Load> {
            match self {
                Item::Rows(_, bytes) => Some(Load { rows: 2, bytes: *bytes }),
                Item::Mark => None,
            }
        }
    }

    struct Open {
        sender: Sender<Item>,
        receiver: Receiver<Item>,
        dropped: Arc<AtomicU64>,
        memory: Arc<Memory>,
    }

    fn open(items: usize, bytes: u64, overflow: Overflow) -> Open {
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        let memory = Arc::new(Memory::new(Some(1000)));
        let limits = Limits { items, bytes, overflow, memory: Arc::clone(&memory) };
        let (sender, receiver) = channel(limits, move |n| _ = counter.fetch_add(n, Ordering::Relaxed));
        Open { sender, receiver, dropped, memory }
    }

    fn drained(receiver: &mut Receiver<Item>) -> Vec<u64> {
        std::iter::from_fn(|| receiver.try_recv())
            .map(|item| if let Item::Rows(n, _) = item { n } else { u64::MAX })
            .collect()
    }

    #[test]
    fn a_full_channel_does_what_it_was_told() {
        let mark = u64::MAX;
        let cases = [
            (Overflow::Block, vec![0, 1, 2], 0),
            (Overflow::DropOldest, vec![mark, 3, 4], 6),
            (Overflow::DropNewest, vec![0, 1, 2, mark], 4),
        ];
        for (overflow, expected, n_dropped) in cases {
            let Open { sender, mut receiver, dropped, memory } = open(3, 1_000_000, overflow);
            let results: Vec<bool> = (0..3)
                .map(|n| Item::Rows(n, 10))
                .chain([Item::Mark])
                .chain((3..5).map(|n| Item::Rows(n, 10)))
                .map(|item| sender.try_send(item).is_ok())
                .collect();
            assert_eq!(results.iter().all(|is_ok| *is_ok), overflow != Overflow::Block, "{overflow:?}");
            assert_eq!(drained(&mut receiver), expected, "{overflow:?}");
            assert_eq!(dropped.load(Ordering::Relaxed), n_dropped, "{overflow:?}");
            assert_eq!(memory.used(), 0);
        }
    }

    #[test]
    fn bytes_count_and_one_item_always_gets_in() {
        let Open { sender, mut receiver, memory, .. } = open(10, 100, Overflow::Block);
        assert!(sender.try_send(Item::Rows(0, 5000)).is_ok(), "the first gets in, however large");
        assert_eq!(sender.try_send(Item::Rows(1, 1)), Err(TrySendError::Full(Item::Rows(1, 1))));
        assert_eq!((memory.used(), sender.depth().now()), (5000, (1, 5000)));
        assert_eq!(receiver.try_recv(), Some(Item::Rows(0, 5000)));
        assert_eq!((memory.used(), sender.depth().now()), (0, (0, 0)));
        // Others use the memory up: one item at a time still goes through.
        memory.add(2000);
        assert!(sender.try_send(Item::Rows(1, 1)).is_ok());
        assert!(sender.try_send(Item::Rows(2, 1)).is_err());
        memory.sub(2000);
        assert!(sender.try_send(Item::Rows(2, 1)).is_ok());
        drop(receiver);
        assert_eq!(memory.used(), 0, "what nobody will receive is not held");
        assert_eq!(sender.try_send(Item::Mark), Err(TrySendError::Closed(Item::Mark)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_waits_for_room_and_a_receiver_for_items() {
        let Open { sender, mut receiver, .. } = open(1, 100, Overflow::Block);
        let (sent, received) = tokio::join!(
            async {
                for n in 0..100 {
                    sender.send(Item::Rows(n, 1)).await.unwrap();
                    if n % 10 == 0 {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
                drop(sender);
                100
            },
            async {
                let mut items = Vec::new();
                while receiver.recv_many(&mut items, 3).await > 0 {}
                items
            }
        );
        let expected: Vec<Item> = (0..sent).map(|n| Item::Rows(n, 1)).collect();
        assert_eq!(received, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_waits_learns_that_the_receiver_is_gone() {
        let Open { sender, receiver, .. } = open(1, 100, Overflow::Block);
        sender.try_send(Item::Mark).unwrap();
        let (sent, ()) = tokio::join!(sender.send(Item::Rows(1, 1)), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(receiver);
        });
        assert_eq!(sent, Err(Item::Rows(1, 1)));
    }
}
