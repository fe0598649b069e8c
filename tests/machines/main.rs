//! Real machines: systemd as PID 1, a disk, a boot, and a power cord (user-mode Linux).
//!
//! The package is installed as anybody would do it, and the machines are on their own from then on: what the tests do is
//! switch them on, cut their power and ask. Those that take long are ignored by `cargo test`; `tests/machines/all` runs
//! them, too, with the static build that the package carries.
//!
//! Needs root and what `tests/install` installs; without them these tests fail, they are never skipped.

mod deadline;
mod disks;
mod machine;
mod native;

mod answers;
mod bare;
mod cost;
mod directors;
mod installed;
mod odd;
mod power;
mod systemd;
mod three;
