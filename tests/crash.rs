//! Agents that die, and what the next one makes of it.

#[path = "crash/adopted.rs"]
mod adopted;
mod agents;
#[path = "crash/life.rs"]
mod life;
#[cfg(debug_assertions)] // an agent can be told where to die in such a build only
#[path = "crash/points.rs"]
mod points;
#[cfg(debug_assertions)]
#[path = "crash/rotated.rs"]
mod rotated;
