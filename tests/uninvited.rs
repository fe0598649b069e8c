//! Whoever is not wanted: a host that floods, drips, replays and lies; files that others may write to; secrets that are
//! looked for everywhere; a clock that is wrong by decades; tasks of the agent that crash.

mod agents;
mod secured;
mod uninvited {
    pub mod bytes;
    pub mod clocks;
    pub mod crashes;
    pub mod greedy;
    pub mod liar;
    pub mod rogue;
    pub mod secrets;
}
