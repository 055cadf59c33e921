//! Millions of texts that are nearly statements. Not part of a normal run, because it takes many minutes:
//!
//! ```text
//! STRESS_INPUTS=10000000 cargo test -p sluice-sql --lib -- --ignored --nocapture sql::tests::stress
//! ```
//!
//! Input `n` depends on `n` alone, so that a failure can be looked at again: `STRESS_FIRST=n STRESS_INPUTS=1`.

use std::sync::mpsc;
use std::time::Duration;

use super::properties::{PIECES, VALID, check};

/// The SplitMix64 generator: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

/// The `n`th input: pieces at random, or valid statements that are cut, spliced and sprinkled with pieces.
fn input(n: u64, pieces: &[&str]) -> String {
    let mut random = Random(n.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let mut text = String::new();
    if random.below(3) == 0 {
        let glue = ["", " "][random.below(2)];
        for _ in 0..random.below(30) {
            text.push_str(random.of(pieces));
            text.push_str(glue);
        }
        return text;
    }
    let mut chars: Vec<char> = random.of(&VALID).chars().collect();
    for _ in 0..1 + random.below(5) {
        let at = random.below(chars.len() + 1);
        let end = (at + random.below(15)).min(chars.len());
        match random.below(6) {
            // A part of another statement.
            0 => {
                let other: Vec<char> = random.of(&VALID).chars().collect();
                let from = random.below(other.len());
                let to = (from + random.below(60)).min(other.len());
                chars.splice(at..end, other[from..to].iter().copied());
            }
            // The same once more.
            1 => {
                let part = chars[at..end].to_vec();
                chars.splice(at..at, part);
            }
            2 => drop(chars.drain(at..end)),
            3 => drop(chars.splice(at..end, char::from_u32(random.below(0x3000) as u32))),
            _ => drop(chars.splice(at..at, random.of(pieces).chars())),
        }
    }
    text.extend(chars);
    text
}

#[test]
#[ignore = "takes many minutes; the command is at the top of the file"]
fn no_input_panics_or_hangs() {
    let number = |name: &str, otherwise: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number")),
        Err(_) => otherwise,
    };
    let (first, n_inputs) = (number("STRESS_FIRST", 0), number("STRESS_INPUTS", 1_000_000));
    let (progress, reports) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        let pieces: Vec<&str> = PIECES.split('|').collect();
        let mut n_accepted = 0u64;
        for n in first..first + n_inputs {
            if n % 1000 == 0 {
                // The other end is gone only when the test has failed already.
                let _ = progress.send(n);
            }
            let text = input(n, &pieces);
            if std::panic::catch_unwind(|| check(&text)).map(|accepted| n_accepted += u64::from(accepted)).is_err() {
                panic!("input {n} fails: {text:?}");
            }
        }
        n_accepted
    });
    let mut last = first;
    loop {
        match reports.recv_timeout(Duration::from_secs(120)) {
            Ok(n) => {
                if n % 1_000_000 == 0 {
                    println!("{n} inputs");
                }
                last = n;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("an input from {last} to {} hangs", last + 1000),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let n_accepted = worker.join().expect("the worker's panic names the input");
    println!("{n_inputs} inputs, {n_accepted} of them accepted");
    assert!(n_accepted < n_inputs || n_inputs < 100, "the inputs are no stress");
}
