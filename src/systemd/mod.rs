//! What systemd runs for us: units that the machine's distribution ships, started and stopped over D-Bus
//! (org.freedesktop.systemd1(5)), and followed by its signals.
//!
//! A run is identified by its unit and the *invocation id* that systemd gives each activation, never by a pid. What the
//! signals mean is decided in [`Course`], which is pure; [`Bus`] is the connection.

mod bus;
mod course;
mod dropin;
mod lines;
mod state;

pub use bus::{Bus, Ears, Heard, Refused, state_of};
pub use course::{Course, Told};
pub use dropin::{FOLDER, keep_to};
pub use lines::last_lines;
pub use state::{Active, Fact, State};
