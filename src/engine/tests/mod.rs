//! The engine's exact answers. Owns no model of the world: schedules and crashes are the simulator's.

mod git;
mod life;
mod script;
mod stop;
