//! With pods that run: `tests/run --without pods` leaves these out.

mod image;
mod node;
