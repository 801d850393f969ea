//! Handlers as real processes, through the executor and the launcher of the real program.

mod boxes;
mod crash;
mod ends;
mod sandbox;
mod secrets;
mod stage;
mod walls;
