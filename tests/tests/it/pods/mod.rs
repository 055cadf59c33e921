//! With pods that run: `tests/run --without pods` leaves these out.

mod image;
mod install;
mod lasting;
mod node;
mod rights;
mod running;
mod site;
